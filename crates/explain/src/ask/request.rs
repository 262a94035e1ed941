//! What becomes of a request: its virtual host, its route, and what that does.

use std::sync::Arc;

use lateen_decode::{Carrier, HcmSpec, ListenerSpec, RouteExtra, Routes, SessionSpec};
use lateen_pilot::{RuleTrace, Setting};
use lateen_route::{
    Action, Forward, Host as VirtualHost, HostRewrite, PathRedirect, Redirect, RequestView, Route,
    RouteTable, without_port,
};
use lateen_xds::types::route as pb;

use super::Asker;
use crate::Security;
use crate::answer::{
    Candidate, Carried, Choice, Destination, Explanation, Outcome, Redirection, Said,
};
use crate::served::config_of;

/// What a rule may say of a request, as people call it.
const SETTINGS: [(&str, Setting); 7] = [
    ("timeout", Setting::Timeout),
    ("retries", Setting::Retries),
    ("rewrite", Setting::Rewrite),
    ("mirrors", Setting::Mirrors),
    ("fault", Setting::Fault),
    ("redirect", Setting::Redirect),
    ("answer", Setting::Answer),
];

impl<'a> Asker<'a> {
    pub(super) fn request(
        &self,
        listener: &ListenerSpec,
        chain: usize,
        hcm: &'a HcmSpec,
        told: &mut Explanation,
    ) -> Outcome {
        let (table, message): (&Arc<RouteTable<RouteExtra>>, _) = match &hcm.routes {
            Routes::Inline(table) => {
                let key = (listener.name.to_string(), chain);
                (table, self.served.inline.get(&key))
            }
            Routes::Named(name) => {
                told.table = name.to_string();
                match self.served.tables.get(name.as_str()) {
                    Some(served) => (&served.table, Some(&served.message)),
                    None => return Outcome::NoHost,
                }
            }
        };
        let candidates = table.candidates(&self.call.authority);
        let Some((first, rest)) = candidates.split_first() else {
            let authority = without_port(&self.call.authority);
            told.host = Some(Choice {
                why: format!(
                    "no virtual host has the authority {:?}",
                    self.call.authority
                ),
                others: self.passed_over(authority, true),
                ..Choice::default()
            });
            return Outcome::NoHost;
        };
        let others = rest.iter().map(|other| Candidate {
            name: other.host.name.to_string(),
            why: format!("its domain {:?} counts for less", other.domain),
            from: Vec::new(),
        });
        // `host:port`, but for what is for all others.
        let chosen = first.host.name.rsplit_once(':').map(|(host, _)| host);
        let chosen = chosen.unwrap_or(without_port(&self.call.authority));
        told.host = Some(Choice {
            name: first.host.name.to_string(),
            why: format!("its domain {:?} fits", first.domain),
            others: others.chain(self.passed_over(chosen, true)).collect(),
            ..Choice::default()
        });
        let place = table
            .hosts()
            .iter()
            .position(|host| host.name == first.host.name);
        let messages = place.and_then(|place| message?.virtual_hosts.get(place));
        self.route(hcm, first.host, messages, told)
    }

    fn route(
        &self,
        hcm: &HcmSpec,
        host: &VirtualHost<RouteExtra>,
        message: Option<&pb::VirtualHost>,
        told: &mut Explanation,
    ) -> Outcome {
        if host.require_tls && self.call.security == Security::Plain {
            return Outcome::HttpsRequired;
        }
        let of = |index: usize| message.and_then(|host| host.routes.get(index));
        let name = |route: &Route<RouteExtra>, index: usize| {
            if route.name.is_empty() {
                format!("#{index}")
            } else {
                format!("#{index} {}", route.name)
            }
        };
        let mut rules = self.rules(&told.table, &host.name);
        let mut choice = Choice::default();
        let mut taken = None;
        for found in host.choices(self.call, self.call.random) {
            let served = of(found.index);
            let rule = served.and_then(|route| rules.find(route));
            choice.others.extend(self.left_out(&mut rules, rule));
            let rule = rule.map(|at| rules.rule(at));
            if rule.is_none() && !rules.is_empty() {
                told.notes.push(format!(
                    "route {} is none of those that the rules become: it is of another version of \
                     them, or patched",
                    name(found.route, found.index)
                ));
            }
            let config = served.map(|route| config_of(route.metadata.as_ref()));
            let named = config.and_then(|config| self.behind.named(&config));
            let whole = || match rule {
                Some(rule) => self.behind.sources(&rule.origins()),
                None => named.into_iter().collect(),
            };
            match found.miss {
                Some(miss) => choice.others.push(Candidate {
                    name: name(found.route, found.index),
                    ..self.missed(rule, miss, whole)
                }),
                None => {
                    choice.name = name(found.route, found.index);
                    choice.why = "the first that the request passes".to_owned();
                    choice.from = whole();
                    choice.said = self.said(rule);
                    taken = Some((found, rule.cloned()));
                }
            }
        }
        if taken.is_none() {
            choice.others.extend(self.left_out(&mut rules, None));
        }
        told.route = Some(choice);
        let Some((found, rule)) = taken else {
            return Outcome::NoRoute;
        };
        match &found.route.action {
            Action::Direct(direct) => Outcome::Answer {
                status: direct.status,
            },
            Action::Redirect(redirect) => Outcome::Redirect(redirection(redirect)),
            Action::Forward(forward) => {
                let retry = of(found.index).and_then(|route| match &route.action {
                    Some(pb::route::Action::Route(action)) => action.retry_policy.as_ref(),
                    _ => None,
                });
                let mut to = self.forward(found.route, forward, retry, rule.as_ref());
                let fault = found
                    .route
                    .extra
                    .fault
                    .as_ref()
                    .or(host.extra.fault.as_ref());
                let fault = fault.or(hcm.filters.fault.as_ref());
                to.faults = fault.map_or_else(Vec::new, |fault| faults(fault));
                let spec =
                    (hcm.filters).session_of(&host.extra, &found.route.extra, self.call.path());
                to.session = spec.map_or_else(String::new, |spec| session(spec));
                Outcome::Forward(to)
            }
        }
    }

    /// The fields that say what a rule does.
    fn said(&self, rule: Option<&RuleTrace>) -> Vec<Said> {
        let said = |(what, setting): (&str, Setting)| {
            let origin = rule?.setting(setting)?;
            Some(self.behind.said(what, &origin))
        };
        SETTINGS.into_iter().filter_map(said).collect()
    }

    fn forward(
        &self,
        route: &Route<RouteExtra>,
        forward: &Forward,
        retry: Option<&pb::RetryPolicy>,
        rule: Option<&RuleTrace>,
    ) -> Destination {
        let path = lateen_route::RequestView::path(self.call);
        let rewrite = forward.path.as_ref();
        Destination {
            carries: Carried::Requests,
            clusters: self.clusters(&forward.target, |n| rule?.destination(n)),
            timeout_ms: (!forward.timeout.is_zero())
                .then(|| u64::try_from(forward.timeout.as_millis()).unwrap_or(u64::MAX)),
            retries: match (&forward.retry, retry) {
                (Some(policy), Some(said)) => format!("{} for {}", policy.attempts, said.retry_on),
                (Some(policy), None) => policy.attempts.to_string(),
                (None, _) => String::new(),
            },
            path: rewrite
                .map(|rewrite| rewrite.apply(&route.matcher.path, path, None))
                .filter(|new| new != path)
                .unwrap_or_default(),
            authority: match &forward.host {
                None => String::new(),
                Some(HostRewrite::Literal(host)) => host.clone(),
                Some(HostRewrite::Auto) => "the host's own name".to_owned(),
                Some(HostRewrite::Header(name)) => format!("what header {name:?} says"),
                Some(HostRewrite::PathRegex(_)) => "by the path".to_owned(),
            },
            session: String::new(),
            mirrors: forward
                .mirrors
                .iter()
                .map(|mirror| {
                    let percent = f64::from(mirror.millionths) / 10_000.0;
                    (mirror.cluster.to_string(), percent)
                })
                .collect(),
            faults: Vec::new(),
        }
    }
}

fn redirection(redirect: &Redirect) -> Redirection {
    Redirection {
        status: redirect.status,
        scheme: redirect.scheme.clone().unwrap_or_default(),
        host: redirect.host.clone().unwrap_or_default(),
        port: redirect.port,
        path: match &redirect.path {
            None => String::new(),
            Some(PathRedirect::Full(path)) => path.clone(),
            Some(PathRedirect::Rewrite(rewrite)) => format!("{rewrite:?}"),
        },
    }
}

/// What keeps clients with their hosts.
fn session(spec: &SessionSpec) -> String {
    let mut told = match &spec.by {
        Carrier::Header(name) => format!("with one host by header {name}"),
        Carrier::Cookie { name, ttl, .. } if ttl.is_zero() => {
            format!("with one host by cookie {name}")
        }
        Carrier::Cookie { name, ttl, .. } => {
            format!("with one host by cookie {name}, for {} s", ttl.as_secs())
        }
    };
    if spec.strict {
        told.push_str(", and no other");
    }
    told
}

fn faults(fault: &lateen_decode::Fault) -> Vec<String> {
    use lateen_decode::AbortStatus;
    let percent = |share: lateen_route::Fraction| f64::from(share.millionths) / 10_000.0;
    let mut told = Vec::new();
    if let Some((share, delay)) = fault.delay {
        told.push(format!("delay of {delay:?} for {} %", percent(share)));
    }
    if let Some(abort) = &fault.abort {
        let status = match abort.status {
            AbortStatus::Http(status) => format!("status {status}"),
            AbortStatus::Grpc(status) => format!("gRPC status {status}"),
        };
        told.push(format!("{status} for {} %", percent(abort.share)));
    }
    told
}
