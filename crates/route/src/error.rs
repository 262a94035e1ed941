//! Why a configuration was refused.

/// A fault in a route configuration; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A regular expression does not compile.
    #[error("{field}: invalid regex {regex:?}: {reason}")]
    Regex {
        /// Where it stands.
        field: String,
        /// The expression.
        regex: String,
        /// What the compiler said.
        reason: String,
    },
    /// A domain appears twice.
    #[error("virtual host {host:?}: domain {domain:?} is already taken by {by:?}")]
    DuplicateDomain {
        /// The second virtual host.
        host: String,
        /// The domain.
        domain: String,
        /// The first virtual host.
        by: String,
    },
    /// A domain with a wildcard in an impossible place.
    #[error("virtual host {host:?}: domain {domain:?} is not a valid pattern")]
    Domain {
        /// The virtual host.
        host: String,
        /// The domain.
        domain: String,
    },
    /// Weights that leave nothing to choose.
    #[error("route {route:?}: the sum of the cluster weights must be above 0")]
    Weights {
        /// The route.
        route: String,
    },
}

pub(crate) fn compile_regex(field: &str, pattern: &str) -> Result<regex::Regex, RouteError> {
    regex::Regex::new(pattern).map_err(|error| RouteError::Regex {
        field: field.to_owned(),
        regex: pattern.to_owned(),
        reason: error.to_string().lines().last().unwrap_or("").to_owned(),
    })
}
