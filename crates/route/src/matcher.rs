//! Conditions on a request: path, headers, query, and a share of the traffic.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use regex::Regex;

use crate::RouteError;
use crate::error::compile_regex;

/// What matching reads of a request.
pub trait RequestView {
    /// The authority, port included.
    fn authority(&self) -> &str;
    /// The method.
    fn method(&self) -> &str;
    /// `http` or `https`.
    fn scheme(&self) -> &str;
    /// The path without the query.
    fn path(&self) -> &str;
    /// The query without its question mark.
    fn query(&self) -> Option<&str>;
    /// A header by its name in lower case; repeated fields joined by commas. Values are bytes, of
    /// any encoding or none.
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// A test on a text, as handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// The same text.
    Exact(String),
    /// Starts so.
    Prefix(String),
    /// Ends so.
    Suffix(String),
    /// Contains it.
    Contains(String),
    /// The expression matches the whole text.
    Regex(String),
}

/// A compiled test on a text. What is no UTF-8 is text as well: a client could else choose bytes by
/// which no test passes, and every inverted one does.
#[derive(Debug, Clone)]
pub struct StringTest {
    pub(crate) kind: Kind,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl StringTest {
    /// Compiles a test. A regular expression must match the whole text and keeps its own case rule.
    pub fn new(field: &str, spec: StringMatch, ignore_case: bool) -> Result<Self, RouteError> {
        let fold = |text: String| {
            if ignore_case {
                text.to_ascii_lowercase()
            } else {
                text
            }
        };
        let kind = match spec {
            StringMatch::Exact(text) => Kind::Exact(fold(text)),
            StringMatch::Prefix(text) => Kind::Prefix(fold(text)),
            StringMatch::Suffix(text) => Kind::Suffix(fold(text)),
            StringMatch::Contains(text) => Kind::Contains(fold(text)),
            StringMatch::Regex(text) => Kind::Regex(
                compile_regex(field, &format!("^(?s:{text})$")).map_err(|error| match error {
                    RouteError::Regex { field, reason, .. } => RouteError::Regex {
                        field,
                        regex: text,
                        reason,
                    },
                    other => other,
                })?,
            ),
        };
        Ok(StringTest { kind, ignore_case })
    }

    /// True where the text passes. Texts are compared by their bytes. An expression sees U+FFFD, an
    /// ordinary character, in the place of bytes that are no UTF-8.
    pub fn test(&self, text: &[u8]) -> bool {
        let folded = if self.ignore_case {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        match &self.kind {
            Kind::Exact(want) => *folded == *want.as_bytes(),
            Kind::Prefix(want) => folded.starts_with(want.as_bytes()),
            Kind::Suffix(want) => folded.ends_with(want.as_bytes()),
            Kind::Contains(want) => memmem::find(&folded, want.as_bytes()).is_some(),
            Kind::Regex(regex) => regex.is_match(&String::from_utf8_lossy(text)),
        }
    }
}

/// A test on a header, as handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatch {
    /// The header exists (true) or not (false).
    Present(bool),
    /// Its value passes.
    Value {
        /// The test.
        test: StringMatch,
        /// Without regard to case.
        ignore_case: bool,
    },
    /// Its value is a whole number from start up to but not including end.
    Range(i64, i64),
}

/// A compiled test on a header.
#[derive(Debug, Clone)]
pub struct HeaderTest {
    name: String,
    test: HeaderKind,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug, Clone)]
enum HeaderKind {
    Present(bool),
    Value(StringTest),
    Range(i64, i64),
}

impl HeaderTest {
    /// Compiles a test. `missing_is_empty` lets an absent header count as an empty value; else an
    /// absent header fails every test of its value, an inverted one too.
    pub fn new(
        name: &str,
        spec: HeaderMatch,
        invert: bool,
        missing_is_empty: bool,
    ) -> Result<Self, RouteError> {
        let field = format!("header {name}");
        let test = match spec {
            HeaderMatch::Present(present) => HeaderKind::Present(present),
            HeaderMatch::Range(start, end) => HeaderKind::Range(start, end),
            HeaderMatch::Value { test, ignore_case } => {
                HeaderKind::Value(StringTest::new(&field, test, ignore_case)?)
            }
        };
        Ok(HeaderTest {
            name: name.to_ascii_lowercase(),
            test,
            invert,
            missing_is_empty,
        })
    }

    /// The header that it reads.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it passes where its test does not.
    pub fn is_inverted(&self) -> bool {
        self.invert
    }

    /// Says what the test wants.
    pub(crate) fn write_test(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            HeaderKind::Present(true) => f.write_str("any value"),
            HeaderKind::Present(false) => f.write_str("none"),
            HeaderKind::Value(test) => write!(f, "{test}"),
            HeaderKind::Range(start, end) => write!(f, "a number from {start} to below {end}"),
        }
    }

    /// True where the header passes.
    pub fn test(&self, value: Option<&[u8]>) -> bool {
        let value = match (value, self.missing_is_empty) {
            (None, true) => Some(&[][..]),
            (value, _) => value,
        };
        let passes = match (&self.test, value) {
            (HeaderKind::Present(want), value) => value.is_some() == *want,
            (_, None) => return false,
            (HeaderKind::Value(test), Some(value)) => test.test(value),
            (HeaderKind::Range(start, end), Some(value)) => {
                whole_number(value).is_some_and(|number| (*start..*end).contains(&number))
            }
        };
        passes != self.invert
    }

    /// True where the request passes; pseudo-headers are known by their names.
    pub fn matches(&self, request: &impl RequestView) -> bool {
        self.test(self.value(request).as_deref())
    }

    /// What the request has in the place of the header.
    pub(crate) fn value<'a>(&self, request: &'a impl RequestView) -> Option<Cow<'a, [u8]>> {
        let text = |text: &'a str| Some(Cow::Borrowed(text.as_bytes()));
        match self.name.as_str() {
            ":method" => text(request.method()),
            ":authority" | "host" => text(request.authority()),
            ":scheme" => text(request.scheme()),
            ":path" => match request.query() {
                Some(query) => {
                    let whole = format!("{}?{query}", request.path());
                    Some(Cow::Owned(whole.into_bytes()))
                }
                None => text(request.path()),
            },
            name => request.header(name),
        }
    }
}

fn whole_number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A test on a path, as handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The path is this.
    Exact(String),
    /// The path starts so.
    Prefix(String),
    /// The path is this or goes on with a slash.
    SeparatedPrefix(String),
    /// The expression matches the whole path.
    Regex(String),
    /// The request is a CONNECT.
    Connect,
}

/// A compiled test on a path.
#[derive(Debug, Clone)]
pub enum PathMatcher {
    /// The path passes the test.
    Text(StringTest, usize),
    /// The path is this or goes on with a slash.
    Separated(StringTest, usize),
    /// The request is a CONNECT.
    Connect,
}

impl PathMatcher {
    fn new(spec: PathMatch, ignore_case: bool) -> Result<Self, RouteError> {
        let text = |test: StringMatch, length: usize| {
            Ok(PathMatcher::Text(
                StringTest::new("path", test, ignore_case)?,
                length,
            ))
        };
        match spec {
            PathMatch::Exact(path) => {
                let length = path.len();
                text(StringMatch::Exact(path), length)
            }
            PathMatch::Prefix(path) => {
                let length = path.len();
                text(StringMatch::Prefix(path), length)
            }
            PathMatch::Regex(path) => text(StringMatch::Regex(path), usize::MAX),
            PathMatch::SeparatedPrefix(path) => {
                let length = path.len();
                let test = StringTest::new("path", StringMatch::Prefix(path), ignore_case)?;
                Ok(PathMatcher::Separated(test, length))
            }
            PathMatch::Connect => Ok(PathMatcher::Connect),
        }
    }

    fn test(&self, request: &impl RequestView) -> bool {
        let path = request.path().as_bytes();
        match self {
            PathMatcher::Text(test, _) => test.test(path),
            PathMatcher::Separated(test, length) => {
                test.test(path) && matches!(path.get(*length), None | Some(b'/'))
            }
            PathMatcher::Connect => request.method() == "CONNECT",
        }
    }

    /// How much of this path the match covers: what a prefix rewrite replaces.
    pub fn matched_length(&self, path: &str) -> usize {
        match self {
            PathMatcher::Text(_, length) | PathMatcher::Separated(_, length) => {
                (*length).min(path.len())
            }
            PathMatcher::Connect => path.len(),
        }
    }
}

/// A test on a query parameter, of which the first value counts where it is repeated.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    /// The parameter.
    pub name: String,
    /// The test; `None` asks that it exists.
    pub test: Option<StringTest>,
}

impl QueryMatch {
    /// The first value that the request has.
    pub(crate) fn value<'a>(&self, query: Option<&'a str>) -> Option<&'a str> {
        let pairs = query.into_iter().flat_map(|query| query.split('&'));
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(name, _)| *name == self.name)?;
        Some(value)
    }

    fn matches(&self, query: Option<&str>) -> bool {
        let Some(value) = self.value(query) else {
            return false;
        };
        let passes = |test: &StringTest| test.test(value.as_bytes());
        self.test.as_ref().is_none_or(passes)
    }
}

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// How many of a million.
    pub millionths: u32,
}

impl Fraction {
    /// Everything.
    pub const ALL: Fraction = Fraction {
        millionths: 1_000_000,
    };

    /// True where the drawn number falls into the share.
    pub fn hits(self, random: u64) -> bool {
        random % 1_000_000 < u64::from(self.millionths)
    }
}

/// What a route applies to, as handed in; header and query tests are compiled already.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// Compare paths without regard to case.
    pub ignore_case: bool,
    /// The headers; all must pass.
    pub headers: Vec<HeaderTest>,
    /// The query parameters; all must pass.
    pub query: Vec<QueryMatch>,
    /// gRPC requests alone.
    pub grpc: bool,
    /// The share of requests that it takes.
    pub fraction: Option<Fraction>,
}

impl RouteMatch {
    /// Every request whose path starts so.
    pub fn prefix(prefix: &str) -> Self {
        RouteMatch {
            path: PathMatch::Prefix(prefix.to_owned()),
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            grpc: false,
            fraction: None,
        }
    }
}

/// The condition of a route that a request does not pass.
#[derive(Debug, Clone, Copy)]
pub enum Miss<'a> {
    /// On the path.
    Path(&'a PathMatcher),
    /// On a header.
    Header(&'a HeaderTest),
    /// On a query parameter.
    Query(&'a QueryMatch),
    /// It takes gRPC alone.
    Grpc,
    /// It takes a share of requests, of which this is not one.
    Fraction(Fraction),
}

/// A compiled [`RouteMatch`].
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The path's part.
    pub path: PathMatcher,
    headers: Vec<HeaderTest>,
    query: Vec<QueryMatch>,
    grpc: bool,
    fraction: Option<Fraction>,
}

impl Matcher {
    /// Compiles.
    pub fn new(spec: RouteMatch) -> Result<Self, RouteError> {
        let RouteMatch {
            path,
            ignore_case,
            headers,
            query,
            grpc,
            fraction,
        } = spec;
        let path = PathMatcher::new(path, ignore_case)?;
        Ok(Matcher {
            path,
            headers,
            query,
            grpc,
            fraction,
        })
    }

    /// True where the request passes every condition.
    pub fn matches(&self, request: &impl RequestView, random: u64) -> bool {
        self.check(request, random).is_ok()
    }

    /// The first condition that the request does not pass.
    ///
    /// # Errors
    /// That condition.
    pub fn check(&self, request: &impl RequestView, random: u64) -> Result<(), Miss<'_>> {
        if !self.path.test(request) {
            return Err(Miss::Path(&self.path));
        }
        let mut headers = self.headers.iter();
        if let Some(header) = headers.find(|header| !header.matches(request)) {
            return Err(Miss::Header(header));
        }
        let mut queries = self.query.iter();
        if let Some(query) = queries.find(|query| !query.matches(request.query())) {
            return Err(Miss::Query(query));
        }
        let is_grpc = || {
            let kind = request.header("content-type");
            kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
        };
        if self.grpc && !is_grpc() {
            return Err(Miss::Grpc);
        }
        match self.fraction {
            Some(fraction) if !fraction.hits(random) => Err(Miss::Fraction(fraction)),
            _ => Ok(()),
        }
    }
}
