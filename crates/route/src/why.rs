//! Why a request takes the virtual host and the route that it takes, and not another one. The
//! questions are put to the same functions that the data plane asks.

use std::fmt;

use crate::matcher::Kind;
use crate::table::Domain;
use crate::{
    ChainMiss, Criterion, HeaderTest, Host, Miss, PathMatcher, RequestView, Route, RouteTable,
    StringTest,
};

/// A virtual host of a table and an authority.
#[derive(Debug)]
pub struct HostChoice<'a, E> {
    /// The host.
    pub host: &'a Host<E>,
    /// The domain by which the authority belongs to it.
    pub domain: String,
}

/// A route and a request.
#[derive(Debug)]
pub struct RouteChoice<'a, E> {
    /// The route.
    pub route: &'a Route<E>,
    /// Its place in the virtual host.
    pub index: usize,
    /// Why the request does not take it; `None` for the one that it takes.
    pub miss: Option<Miss<'a>>,
}

impl<E> RouteTable<E> {
    /// All virtual hosts that an authority belongs to, in the order in which they count: the first
    /// is the one. A host that is not named has no domain for the authority.
    pub fn candidates(&self, authority: &str) -> Vec<HostChoice<'_, E>> {
        let mut found = Vec::new();
        self.domains(authority, |index, domain| {
            let host = &self.hosts()[index];
            let domain = domain.to_string();
            found.push(HostChoice { host, domain });
            true
        });
        found
    }
}

impl<E> Host<E> {
    /// All routes up to the first that the request matches.
    pub fn choices(&self, request: &impl RequestView, random: u64) -> Vec<RouteChoice<'_, E>> {
        let mut choices = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let miss = route.matcher.check(request, random).err();
            choices.push(RouteChoice { route, index, miss });
            if miss.is_none() {
                break;
            }
        }
        choices
    }
}

impl fmt::Display for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Exact(name) => f.write_str(name),
            Domain::Suffix(rest) => write!(f, "*{rest}"),
            Domain::Prefix(rest) => write!(f, "{rest}*"),
            Domain::Any => f.write_str("*"),
        }
    }
}

impl Miss<'_> {
    /// What the condition is on, as people call it: `the path`, `header "x"`.
    pub fn subject(&self) -> String {
        match self {
            Miss::Path(_) => "the path".to_owned(),
            Miss::Header(test) => format!("header {:?}", test.name()),
            Miss::Query(query) => format!("query parameter {:?}", query.name),
            Miss::Grpc => "the content type".to_owned(),
            Miss::Fraction(_) => "the share".to_owned(),
        }
    }

    /// What it wants, and what the request has.
    pub fn told(&self, request: &impl RequestView) -> String {
        let text = |text: &[u8]| format!("has {:?}", String::from_utf8_lossy(text));
        let none = || "has none".to_owned();
        match self {
            Miss::Path(PathMatcher::Connect) => {
                format!("wants CONNECT, the request is {}", request.method())
            }
            Miss::Path(path) => {
                format!(
                    "wants {path}, the request {}",
                    text(request.path().as_bytes())
                )
            }
            Miss::Header(test) => {
                let has = test.value(request);
                let has = has.map_or_else(none, |value| text(&value));
                format!("wants {test}, the request {has}")
            }
            Miss::Query(query) => {
                let has = query.value(request.query());
                let has = has.map_or_else(none, |value| text(value.as_bytes()));
                match &query.test {
                    Some(test) => format!("wants {test}, the request {has}"),
                    None => format!("wants any value, the request {has}"),
                }
            }
            Miss::Grpc => {
                let has = request.header("content-type");
                let has = has.map_or_else(none, |value| text(&value));
                format!("wants that of gRPC, the request {has}")
            }
            Miss::Fraction(share) => {
                let percent = f64::from(share.millionths) / 10_000.0;
                format!("wants {percent} % of requests, of which this is not one")
            }
        }
    }
}

/// What it wants.
impl fmt::Display for PathMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathMatcher::Text(test, _) => write!(f, "{test}"),
            PathMatcher::Separated(test, _) => write!(f, "{test} that ends there or with a slash"),
            PathMatcher::Connect => f.write_str("CONNECT"),
        }
    }
}

/// What it wants.
impl fmt::Display for StringTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Exact(text) => write!(f, "exact {text:?}"),
            Kind::Prefix(text) => write!(f, "prefix {text:?}"),
            Kind::Suffix(text) => write!(f, "suffix {text:?}"),
            Kind::Contains(text) => write!(f, "{text:?} within"),
            Kind::Regex(regex) => write!(f, "regex {:?}", regex.as_str()),
        }
    }
}

/// What it wants.
impl fmt::Display for HeaderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_inverted() {
            f.write_str("anything but ")?;
        }
        self.write_test(f)
    }
}

impl fmt::Display for ChainMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.criterion {
            Criterion::Port => "destination port",
            Criterion::Destination => "destination address",
            Criterion::ServerName => "TLS server name",
            Criterion::Transport => "transport protocol",
            Criterion::Application => "application protocols",
            Criterion::SourceType => "kind of source",
            Criterion::Source => "source address",
            Criterion::SourcePort => "source port",
            Criterion::Order => return f.write_str("another chain comes first"),
        };
        if self.less_specific {
            write!(f, "another chain asks for the {what} more closely")
        } else {
            write!(f, "the {what} does not fit")
        }
    }
}
