//! The compiled route configuration: from authority and request to one route.

use std::collections::HashMap;
use std::sync::Arc;

use arcstr::ArcStr;

use crate::{
    Action, HeaderMutations, Matcher, RequestView, RouteConfig, RouteError, RouteSpec,
    VirtualHostSpec,
};

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable<E> {
    /// The configuration's name.
    pub name: ArcStr,
    /// Changes to requests and responses of every route.
    pub headers: HeaderMutations,
    hosts: Vec<Arc<Host<E>>>,
    index: Arc<Index>,
    ignore_port: bool,
}

/// Places of hosts in their table, by domain.
#[derive(Debug, Default)]
struct Index {
    exact: HashMap<ArcStr, usize, foldhash::fast::RandomState>,
    /// `*.example.com` without the star; the longest first.
    suffixes: Vec<(String, usize)>,
    /// `example.*` without the star; the longest first.
    prefixes: Vec<(String, usize)>,
    fallback: Option<usize>,
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
    /// The authorities that it answers to, in lower case.
    pub domains: Box<[ArcStr]>,
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

impl Index {
    /// Enters the domains of hosts, or says which one two of them want.
    fn new<E>(hosts: &[Arc<Host<E>>]) -> Result<Self, RouteError> {
        let mut index = Index::default();
        for (at, host) in hosts.iter().enumerate() {
            for domain in &host.domains {
                index.claim(domain, at, hosts)?;
            }
        }
        let longest_first = |list: &mut Vec<(String, usize)>| {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        };
        longest_first(&mut index.suffixes);
        longest_first(&mut index.prefixes);
        Ok(index)
    }

    fn claim<E>(
        &mut self,
        domain: &ArcStr,
        at: usize,
        hosts: &[Arc<Host<E>>],
    ) -> Result<(), RouteError> {
        let host = hosts[at].name.to_string();
        let taken = |by: usize| RouteError::DuplicateDomain {
            host: host.clone(),
            domain: domain.to_string(),
            by: hosts[by].name.to_string(),
        };
        if domain == "*" {
            return match self.fallback.replace(at) {
                Some(by) => Err(taken(by)),
                None => Ok(()),
            };
        }
        let list = if let Some(rest) = domain.strip_prefix('*') {
            Some((rest, &mut self.suffixes))
        } else {
            let rest = domain.strip_suffix('*');
            rest.map(|rest| (rest, &mut self.prefixes))
        };
        match list {
            None => match self.exact.insert(domain.clone(), at) {
                Some(by) => Err(taken(by)),
                None => Ok(()),
            },
            Some((rest, _)) if rest.is_empty() || rest.contains('*') => Err(RouteError::Domain {
                host,
                domain: domain.to_string(),
            }),
            Some((rest, list)) => {
                if let Some((_, by)) = list.iter().find(|(text, _)| text == rest) {
                    return Err(taken(*by));
                }
                list.push((rest.to_owned(), at));
                Ok(())
            }
        }
    }
}

impl<E> RouteTable<E> {
    /// Compiles a configuration, or says what is wrong with it.
    pub fn new(config: RouteConfig<E>) -> Result<Self, RouteError> {
        let hosts = config.hosts.into_iter();
        let hosts = hosts.map(|spec| Host::new(spec).map(Arc::new));
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        Ok(RouteTable {
            name: config.name.into(),
            headers: config.headers,
            index: Arc::new(Index::new(&hosts)?),
            hosts,
            ignore_port: config.ignore_port,
        })
    }

    /// The same table with other virtual hosts. Where only routes differ from those that it has, not
    /// names and domains, nothing is built anew.
    pub fn with_hosts(&self, hosts: Vec<Arc<Host<E>>>) -> Result<Self, RouteError> {
        let same =
            |(a, b): (&Arc<Host<E>>, &Arc<Host<E>>)| Arc::ptr_eq(a, b) || a.domains == b.domains;
        let same_places =
            hosts.len() == self.hosts.len() && hosts.iter().zip(&self.hosts).all(same);
        let index = match same_places {
            true => self.index.clone(),
            false => Arc::new(Index::new(&hosts)?),
        };
        Ok(RouteTable {
            name: self.name.clone(),
            headers: self.headers.clone(),
            hosts,
            index,
            ignore_port: self.ignore_port,
        })
    }

    /// The virtual host for an authority: exact, then the longest suffix, then the longest prefix,
    /// then `*`.
    pub fn host(&self, authority: &str) -> Option<&Host<E>> {
        let mut found = None;
        self.domains(authority, |index, _| {
            found = Some(index);
            false
        });
        self.hosts.get(found?).map(|host| &**host)
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
        let index = &*self.index;
        let longer = |text: &str| authority.len() > text.len();
        if let Some(at) = index.exact.get(authority)
            && !more(*at, Domain::Exact(authority))
        {
            return;
        }
        for (text, at) in &index.suffixes {
            if longer(text)
                && authority.ends_with(text.as_str())
                && !more(*at, Domain::Suffix(text))
            {
                return;
            }
        }
        for (text, at) in &index.prefixes {
            if longer(text)
                && authority.starts_with(text.as_str())
                && !more(*at, Domain::Prefix(text))
            {
                return;
            }
        }
        if let Some(at) = index.fallback {
            more(at, Domain::Any);
        }
    }

    /// The virtual hosts.
    pub fn hosts(&self) -> &[Arc<Host<E>>] {
        &self.hosts
    }
}

impl<E> Host<E> {
    /// Compiles a virtual host, or says what is wrong with it.
    pub fn new(spec: VirtualHostSpec<E>) -> Result<Self, RouteError> {
        let domains = spec.domains.iter();
        let domains = domains.map(|domain| ArcStr::from(domain.to_ascii_lowercase()));
        let routes = spec.routes.into_iter().map(compile);
        Ok(Host {
            name: spec.name.into(),
            domains: domains.collect(),
            routes: routes.collect::<Result<_, _>>()?,
            headers: spec.headers,
            include_attempt_count: spec.include_attempt_count,
            require_tls: spec.require_tls,
            extra: spec.extra,
        })
    }

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
#[must_use]
pub fn without_port(authority: &str) -> &str {
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
