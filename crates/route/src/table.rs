//! The compiled route configuration: from authority and request to one route.

use std::collections::HashMap;

use arcstr::ArcStr;

use crate::{Action, HeaderMutations, Matcher, RequestView, RouteConfig, RouteError, RouteSpec};

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable<E> {
    /// The configuration's name.
    pub name: ArcStr,
    /// Changes to requests and responses of every route.
    pub headers: HeaderMutations,
    hosts: Vec<Host<E>>,
    exact: HashMap<String, usize, foldhash::fast::RandomState>,
    /// `*.example.com` without the star; the longest first.
    suffixes: Vec<(String, usize)>,
    /// `example.*` without the star; the longest first.
    prefixes: Vec<(String, usize)>,
    fallback: Option<usize>,
    ignore_port: bool,
}

/// A domain of a virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain<'a> {
    /// The whole authority.
    Exact(&'a str),
    /// `*` and this.
    Suffix(&'a str),
    /// This and `*`.
    Prefix(&'a str),
    /// `*`.
    Any,
}

/// A compiled virtual host.
#[derive(Debug)]
pub struct Host<E> {
    /// Its name.
    pub name: ArcStr,
    /// Its routes in order.
    pub routes: Vec<Route<E>>,
    /// Changes to requests and responses of every route.
    pub headers: HeaderMutations,
    /// Tell the upstream which attempt this is.
    pub include_attempt_count: bool,
    /// Answer plaintext requests with a redirect to https.
    pub require_tls: bool,
    /// What the caller attached.
    pub extra: E,
}

/// A compiled route.
#[derive(Debug)]
pub struct Route<E> {
    /// Its name; may be empty.
    pub name: ArcStr,
    /// What it applies to.
    pub matcher: Matcher,
    /// What it does.
    pub action: Action,
    /// Changes to requests and responses.
    pub headers: HeaderMutations,
    /// What the caller attached.
    pub extra: E,
}

impl<E> RouteTable<E> {
    /// Compiles a configuration, or says what is wrong with it.
    pub fn new(config: RouteConfig<E>) -> Result<Self, RouteError> {
        let mut table = RouteTable {
            name: config.name.into(),
            headers: config.headers,
            hosts: Vec::with_capacity(config.hosts.len()),
            exact: HashMap::default(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            fallback: None,
            ignore_port: config.ignore_port,
        };
        for spec in config.hosts {
            let index = table.hosts.len();
            for domain in &spec.domains {
                table.claim(&spec.name, domain, index)?;
            }
            let routes = spec
                .routes
                .into_iter()
                .map(compile)
                .collect::<Result<_, _>>()?;
            table.hosts.push(Host {
                name: spec.name.into(),
                routes,
                headers: spec.headers,
                include_attempt_count: spec.include_attempt_count,
                require_tls: spec.require_tls,
                extra: spec.extra,
            });
        }
        let longest_first = |list: &mut Vec<(String, usize)>| {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        };
        longest_first(&mut table.suffixes);
        longest_first(&mut table.prefixes);
        Ok(table)
    }

    fn claim(&mut self, host: &str, domain: &str, index: usize) -> Result<(), RouteError> {
        let domain = domain.to_ascii_lowercase();
        let taken = |by: usize, hosts: &[Host<E>]| RouteError::DuplicateDomain {
            host: host.to_owned(),
            domain: domain.clone(),
            by: hosts
                .get(by)
                .map_or(host.to_owned(), |h| h.name.to_string()),
        };
        if domain == "*" {
            return match self.fallback.replace(index) {
                Some(by) => Err(taken(by, &self.hosts)),
                None => Ok(()),
            };
        }
        let list = if let Some(rest) = domain.strip_prefix('*') {
            Some((rest.to_owned(), &mut self.suffixes))
        } else {
            domain
                .strip_suffix('*')
                .map(|rest| (rest.to_owned(), &mut self.prefixes))
        };
        match list {
            None => match self.exact.insert(domain.clone(), index) {
                Some(by) => Err(taken(by, &self.hosts)),
                None => Ok(()),
            },
            Some((rest, _)) if rest.is_empty() || rest.contains('*') => Err(RouteError::Domain {
                host: host.to_owned(),
                domain,
            }),
            Some((rest, list)) => {
                if let Some((_, by)) = list.iter().find(|(text, _)| *text == rest) {
                    return Err(taken(*by, &self.hosts));
                }
                list.push((rest, index));
                Ok(())
            }
        }
    }

    /// The virtual host for an authority: exact, then the longest suffix, then the longest prefix,
    /// then `*`.
    pub fn host(&self, authority: &str) -> Option<&Host<E>> {
        let mut found = None;
        self.domains(authority, |index, _| {
            found = Some(index);
            false
        });
        self.hosts.get(found?)
    }

    /// The domains that an authority belongs to, in the order in which they count, each with the
    /// virtual host that has it; until `more` has enough.
    pub(crate) fn domains(&self, authority: &str, mut more: impl FnMut(usize, Domain<'_>) -> bool) {
        let authority = if self.ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let lower;
        let authority = if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = authority.to_ascii_lowercase();
            lower.as_str()
        } else {
            authority
        };
        // A wildcard stands for at least one character.
        let longer = |text: &str| authority.len() > text.len();
        if let Some(index) = self.exact.get(authority)
            && !more(*index, Domain::Exact(authority))
        {
            return;
        }
        for (text, index) in &self.suffixes {
            if longer(text)
                && authority.ends_with(text.as_str())
                && !more(*index, Domain::Suffix(text))
            {
                return;
            }
        }
        for (text, index) in &self.prefixes {
            if longer(text)
                && authority.starts_with(text.as_str())
                && !more(*index, Domain::Prefix(text))
            {
                return;
            }
        }
        if let Some(index) = self.fallback {
            more(index, Domain::Any);
        }
    }

    /// The virtual hosts.
    pub fn hosts(&self) -> &[Host<E>] {
        &self.hosts
    }
}

impl<E> Host<E> {
    /// The first route that the request matches.
    pub fn route(&self, request: &impl RequestView, random: u64) -> Option<&Route<E>> {
        self.routes
            .iter()
            .find(|route| route.matcher.matches(request, random))
    }
}

fn compile<E>(spec: RouteSpec<E>) -> Result<Route<E>, RouteError> {
    Ok(Route {
        name: spec.name.into(),
        matcher: Matcher::new(spec.matches)?,
        action: spec.action,
        headers: spec.headers,
        extra: spec.extra,
    })
}

/// The authority without its port; an IPv6 literal keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests;
