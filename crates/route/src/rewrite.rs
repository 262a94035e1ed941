//! How paths and hosts change on the way.

use regex::Regex;

use crate::error::compile_regex;
use crate::{PathMatcher, RouteError};

/// A regular expression with a replacement that names groups as `\1`.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    regex: Regex,
    replacement: String,
}

impl RegexRewrite {
    /// Compiles; the expression may match anywhere and every match is replaced.
    pub fn new(field: &str, pattern: &str, substitution: &str) -> Result<Self, RouteError> {
        let regex = compile_regex(field, pattern)?;
        let mut replacement = String::with_capacity(substitution.len());
        let mut chars = substitution.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '$' => replacement.push_str("$$"),
                '\\' => match chars.next() {
                    Some(digit @ '0'..='9') => replacement.push_str(&format!("${{{digit}}}")),
                    Some(other) => replacement.push(other),
                    None => replacement.push('\\'),
                },
                other => replacement.push(other),
            }
        }
        Ok(RegexRewrite { regex, replacement })
    }

    /// The text after replacement.
    pub fn apply(&self, text: &str) -> String {
        self.regex
            .replace_all(text, self.replacement.as_str())
            .into_owned()
    }
}

/// How a path changes; the query is kept.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// What the route's match covered is replaced.
    Prefix(String),
    /// Matches are replaced.
    Regex(RegexRewrite),
}

impl PathRewrite {
    /// The new path, query included.
    pub fn apply(&self, matcher: &PathMatcher, path: &str, query: Option<&str>) -> String {
        let mut new = match self {
            PathRewrite::Prefix(prefix) => {
                let rest = path.get(matcher.matched_length(path)..).unwrap_or("");
                format!("{prefix}{rest}")
            }
            PathRewrite::Regex(regex) => regex.apply(path),
        };
        if let Some(query) = query {
            new.push('?');
            new.push_str(query);
        }
        new
    }
}

/// How the authority changes.
#[derive(Debug, Clone)]
pub enum HostRewrite {
    /// To this.
    Literal(String),
    /// To the upstream host's name.
    Auto,
    /// To a header's value.
    Header(String),
    /// By an expression over the path.
    PathRegex(RegexRewrite),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Matcher, PathMatch, RouteMatch};

    #[test]
    fn prefixes_and_expressions() {
        let matcher = |path: PathMatch| {
            Matcher::new(RouteMatch {
                path,
                ..RouteMatch::prefix("")
            })
            .expect("compiles")
            .path
        };
        let prefix = PathRewrite::Prefix("/v2".to_owned());
        let check = |rewrite: &PathRewrite, m: PathMatch, path: &str, query, expect: &str| {
            assert_eq!(rewrite.apply(&matcher(m), path, query), expect);
        };
        check(
            &prefix,
            PathMatch::Prefix("/api".into()),
            "/api/x",
            Some("a=b"),
            "/v2/x?a=b",
        );
        check(
            &prefix,
            PathMatch::Exact("/api".into()),
            "/api",
            None,
            "/v2",
        );
        check(
            &prefix,
            PathMatch::SeparatedPrefix("/api".into()),
            "/api/x",
            None,
            "/v2/x",
        );
        let regex = RegexRewrite::new("f", "^/service/([^/]+)(/.*)$", "\\2/instance/\\1");
        let regex = PathRewrite::Regex(regex.expect("compiles"));
        check(
            &regex,
            PathMatch::Prefix("/".into()),
            "/service/foo/v1",
            None,
            "/v1/instance/foo",
        );
    }
}
