//! Rules of VirtualServices and of what became VirtualServices.

use lateen_api::Object;
use lateen_api::networking::{HttpMatchRequest, HttpRoute, HttpRouteDestination, VirtualService};
use lateen_core::ObjectRef;
use lateen_galley::Source;
use lateen_registry::MESH_CONFIG;
use lateen_xds::types::route::Route;

use super::Origin;
use crate::route::{Context, Fate, Unmet, VirtualHostKey, takers};
use crate::view::View;

/// What became of a rule of a user, or of one match of it.
#[derive(Clone, Debug)]
pub struct RuleTrace {
    /// What became of it.
    pub fate: RuleFate,
    /// The rule in each object that has a part in it: a VirtualService, and behind it the delegate that
    /// it goes on in.
    parts: Vec<Part>,
    /// The field of each destination that a route leads to, in the order of its clusters.
    destinations: Vec<String>,
    /// Where retries come from if the rule says nothing of them.
    mesh_retries: Option<ObjectRef>,
}

/// What became of a rule.
#[derive(Clone, Debug)]
pub enum RuleFate {
    /// A route.
    Route(Box<Route>),
    /// It is for other clients or listeners: the condition, and in words why it does not hold.
    Elsewhere {
        /// The field of the condition within the match: `port`.
        field: String,
        /// What it wants, and what there is.
        why: String,
    },
    /// It does not say what to do with a request.
    Nowhere,
    /// A rule before it is for all requests.
    Behind,
}

/// A condition of a route.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'a> {
    /// On the path.
    Path,
    /// On a header, or a part of the request that is told as one (`:method`).
    Header {
        /// Its name.
        name: &'a str,
        /// That it must fail its test.
        inverted: bool,
    },
    /// On a query parameter.
    Query(&'a str),
}

/// Something that a rule may say of what is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The time for all of it.
    Timeout,
    /// How it is tried again.
    Retries,
    /// Another path or authority.
    Rewrite,
    /// Who else gets it.
    Mirrors,
    /// Faults.
    Fault,
    /// A redirect.
    Redirect,
    /// A fixed answer.
    Answer,
}

/// A rule in one object.
#[derive(Clone, Debug)]
struct Part {
    object: ObjectRef,
    /// `spec.http[2]`.
    rule: String,
    /// `spec.http[2].match[1]`; empty where it is for all requests.
    condition: String,
    says: HttpRoute,
    asks: Option<HttpMatchRequest>,
}

impl RuleTrace {
    /// The rule's name.
    pub fn name(&self) -> &str {
        self.parts.last().map_or("", |part| &part.says.name)
    }

    /// The match, or the rule where it has none, in each object that has a part in it.
    pub fn origins(&self) -> Vec<Origin> {
        let origin = |part: &Part| Origin {
            object: part.object.clone(),
            field: match part.condition.as_str() {
                "" => part.rule.clone(),
                condition => condition.to_owned(),
            },
        };
        self.parts.iter().map(origin).collect()
    }

    /// The field of a condition.
    pub fn condition(&self, of: Condition<'_>) -> Option<Origin> {
        let asks = |part: &&Part| part.asks.as_ref().is_some_and(|asks| has(asks, of));
        let part = self.parts.iter().rev().find(asks)?;
        let field = condition_field(part.object.kind, of);
        Some(part.within(&part.condition, &field))
    }

    /// The field of a condition that kept it out, by its name within a match.
    pub fn elsewhere(&self, field: &str) -> Option<Origin> {
        let asks = |part: &&Part| {
            let asks = part.asks.as_ref();
            asks.is_some_and(|asks| match field {
                "port" => asks.port.is_some(),
                "gateways" => !asks.gateways.is_empty(),
                "sourceNamespace" => !asks.source_namespace.is_empty(),
                _ => !asks.source_labels.is_empty(),
            })
        };
        let part = self.parts.iter().rev().find(asks)?;
        Some(part.within(&part.condition, field))
    }

    /// The field that says something of what is done; `None` where no object does.
    pub fn setting(&self, of: Setting) -> Option<Origin> {
        let said = |part: &&Part| says(&part.says, of);
        let part = self.parts.iter().rev().find(said);
        let own = part.map(|part| part.within(&part.rule, setting_field(part, of)));
        let of_mesh = self
            .mesh_retries
            .as_ref()
            .filter(|_| of == Setting::Retries);
        own.or_else(|| {
            Some(Origin {
                object: of_mesh?.clone(),
                field: "data.mesh".to_owned(),
            })
        })
    }

    /// The field of the destination that is one of a route's clusters.
    pub fn destination(&self, n: usize) -> Option<Origin> {
        let part = self.parts.last()?;
        Some(Origin {
            object: part.object.clone(),
            field: self.destinations.get(n)?.clone(),
        })
    }
}

impl Part {
    fn within(&self, whole: &str, field: &str) -> Origin {
        let field = match (whole, field) {
            (whole, "") => whole.to_owned(),
            ("", field) => field.to_owned(),
            (whole, field) => format!("{whole}.{field}"),
        };
        Origin {
            object: self.object.clone(),
            field,
        }
    }
}

/// What becomes of each rule for a virtual host.
pub(super) fn trace(view: View<'_>, key: &VirtualHostKey) -> Vec<RuleTrace> {
    let contexts = key.contexts();
    let all = contexts.iter().flat_map(|context| of_object(view, context));
    all.collect()
}

fn of_object(view: View<'_>, context: &Context<'_>) -> Vec<RuleTrace> {
    let mesh = &view.snapshot.config.mesh;
    let mesh_retries = mesh
        .default_http_retry_policy
        .is_some()
        .then(|| ObjectRef::new("ConfigMap", mesh.root_namespace(), MESH_CONFIG));
    let sources = lateen_galley::sources(&context.rule.meta);
    let made_of = view.snapshot.made_of(context.rule);
    let mut traces = Vec::new();
    context.walk(|at, of, fate| {
        let rule = &context.rule.spec.http[at];
        let source = sources.as_ref().and_then(|sources| sources.get(at));
        let parts = match (source, &made_of) {
            (Some(source), _) => vec![of_source(source, rule, of)],
            (None, Some((root, made_of))) => {
                let Some(made_of) = made_of.get(at) else {
                    return;
                };
                let (in_root, in_delegate) = match of {
                    None => (None, None),
                    Some(of) => made_of.matches.get(of).copied().unwrap_or_default(),
                };
                let delegate = made_of.delegate.iter();
                let delegate = delegate.map(|(object, at)| part(object, *at, in_delegate));
                let root = [part(root, made_of.root, in_root)];
                root.into_iter().chain(delegate).collect()
            }
            (None, None) => return,
        };
        let own = parts.last().map_or("", |part| &part.rule);
        traces.push(RuleTrace {
            destinations: match source {
                Some(source) => source.backends.clone(),
                None => destinations(own, &rule.route),
            },
            fate: match fate {
                Fate::Route => RuleFate::Route(Box::new(context.route_at(at, of))),
                Fate::Elsewhere(unmet) => elsewhere(&unmet),
                Fate::Nowhere => RuleFate::Nowhere,
                Fate::Behind => RuleFate::Behind,
            },
            parts,
            mesh_retries: mesh_retries.clone(),
        });
    });
    traces
}

fn part(object: &Object<VirtualService>, at: usize, of: Option<usize>) -> Part {
    let says = object.spec.http.get(at).cloned().unwrap_or_default();
    let rule = format!("spec.http[{at}]");
    Part {
        object: Origin::new("VirtualService", &object.meta, "").object,
        condition: of.map_or_else(String::new, |of| format!("{rule}.match[{of}]")),
        asks: of.and_then(|of| says.r#match.get(of).cloned()),
        rule,
        says,
    }
}

fn of_source(source: &Source, rule: &HttpRoute, of: Option<usize>) -> Part {
    Part {
        object: Origin::of_source(source, "").object,
        rule: source.rule.clone(),
        condition: source.condition.clone(),
        says: rule.clone(),
        asks: of.and_then(|of| rule.r#match.get(of).cloned()),
    }
}

/// The field of each destination that gets requests.
fn destinations(rule: &str, routes: &[HttpRouteDestination]) -> Vec<String> {
    let place = |taker: &HttpRouteDestination| {
        let mut places = routes.iter();
        places.position(|route| std::ptr::eq(route, taker))
    };
    let takers = takers(routes).into_iter().filter_map(place);
    takers.map(|at| format!("{rule}.route[{at}]")).collect()
}

fn elsewhere(unmet: &Unmet<'_>) -> RuleFate {
    let (field, why) = told(unmet);
    RuleFate::Elsewhere { field, why }
}

/// The field of a condition that does not hold, within its match, and why it does not.
pub(super) fn told(unmet: &Unmet<'_>) -> (String, String) {
    match unmet {
        Unmet::Gateway(wanted, is) => {
            let why = format!("wants {}, this is {is:?}", wanted.join(" or "));
            ("gateways".to_owned(), why)
        }
        Unmet::Port(wanted, is) => {
            let why = format!("wants {wanted}, the request goes to port {is}");
            ("port".to_owned(), why)
        }
        Unmet::Label(key, wanted, is) => {
            let is = is.map_or_else(|| "no such label".to_owned(), |is| format!("{is:?}"));
            let why = format!("wants {wanted:?}, the client has {is}");
            (format!("sourceLabels[{key}]"), why)
        }
        Unmet::Namespace(wanted, is) => {
            let why = format!("wants {wanted:?}, the client is in {is:?}");
            ("sourceNamespace".to_owned(), why)
        }
    }
}

/// Whether a match has a condition.
fn has(asks: &HttpMatchRequest, of: Condition<'_>) -> bool {
    let named = |name: &str, all: &std::collections::BTreeMap<String, _>| {
        all.keys().any(|key| key.eq_ignore_ascii_case(name))
    };
    match of {
        Condition::Path => asks.uri.is_some(),
        Condition::Header {
            name: ":method", ..
        } => asks.method.is_some(),
        Condition::Header {
            name: ":scheme", ..
        } => asks.scheme.is_some(),
        Condition::Header {
            name: ":authority", ..
        } => asks.authority.is_some(),
        Condition::Header {
            name,
            inverted: true,
        } => named(name, &asks.without_headers),
        Condition::Header { name, .. } => named(name, &asks.headers),
        Condition::Query(name) => asks.query_params.contains_key(name),
    }
}

/// What the kinds call a condition.
fn condition_field(kind: &str, of: Condition<'_>) -> String {
    match (of, kind) {
        (Condition::Path, "VirtualService") => "uri".to_owned(),
        (Condition::Path, "GRPCRoute") => "method".to_owned(),
        (Condition::Path, _) => "path".to_owned(),
        (Condition::Header { name, inverted }, _) => match (name.strip_prefix(':'), inverted) {
            (Some(part), _) => part.to_owned(),
            (None, true) => format!("withoutHeaders[{name}]"),
            (None, false) => format!("headers[{name}]"),
        },
        (Condition::Query(name), _) => format!("queryParams[{name}]"),
    }
}

/// Whether a rule says something of what is done.
fn says(rule: &HttpRoute, of: Setting) -> bool {
    match of {
        Setting::Timeout => rule.timeout.is_some(),
        Setting::Retries => rule.retries.is_some(),
        Setting::Rewrite => rule.rewrite.is_some(),
        Setting::Mirrors => rule.mirror.is_some() || !rule.mirrors.is_empty(),
        Setting::Fault => rule.fault.is_some(),
        Setting::Redirect => rule.redirect.is_some(),
        Setting::Answer => rule.direct_response.is_some(),
    }
}

/// What the kinds call it.
fn setting_field(part: &Part, of: Setting) -> &'static str {
    if part.object.kind == "VirtualService" {
        return match of {
            Setting::Timeout => "timeout",
            Setting::Retries => "retries",
            Setting::Rewrite => "rewrite",
            Setting::Mirrors if part.says.mirror.is_some() => "mirror",
            Setting::Mirrors => "mirrors",
            Setting::Fault => "fault",
            Setting::Redirect => "redirect",
            Setting::Answer => "directResponse",
        };
    }
    match of {
        Setting::Timeout => "timeouts",
        Setting::Retries
            if part
                .says
                .retries
                .as_ref()
                .is_some_and(|of| of.retry_on.is_empty()) =>
        {
            "timeouts"
        }
        Setting::Retries => "retry",
        Setting::Rewrite | Setting::Mirrors | Setting::Redirect => "filters",
        // Backends that cannot be used are answered for.
        Setting::Fault | Setting::Answer => match part.object.kind {
            "HTTPRoute" | "GRPCRoute" => "backendRefs",
            "Ingress" if part.rule != "spec.defaultBackend" => "backend",
            // A default backend is one itself, and a listener that no route is for has none.
            _ => "",
        },
    }
}
