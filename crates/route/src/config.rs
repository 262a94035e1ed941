//! A route configuration as it is handed in: plain data, not yet compiled.
//!
//! `E` is what the caller attaches to hosts and routes, such as per-route filter settings.

use crate::{Action, HeaderMutations, RouteMatch};

/// A whole route configuration.
#[derive(Debug, Clone)]
pub struct RouteConfig<E> {
    /// The configuration's name.
    pub name: String,
    /// The virtual hosts.
    pub hosts: Vec<VirtualHostSpec<E>>,
    /// Compare domains without the port of the request's authority.
    pub ignore_port: bool,
    /// Changes to requests and responses of every route.
    pub headers: HeaderMutations,
}

/// One virtual host.
#[derive(Debug, Clone)]
pub struct VirtualHostSpec<E> {
    /// Its name.
    pub name: String,
    /// The authorities that it answers to.
    pub domains: Vec<String>,
    /// The routes; the first that matches is taken.
    pub routes: Vec<RouteSpec<E>>,
    /// Changes to requests and responses of every route.
    pub headers: HeaderMutations,
    /// Tell the upstream which attempt this is.
    pub include_attempt_count: bool,
    /// Answer plaintext requests with a redirect to https.
    pub require_tls: bool,
    /// What the caller attaches.
    pub extra: E,
}

/// One route.
#[derive(Debug, Clone)]
pub struct RouteSpec<E> {
    /// Its name; may be empty.
    pub name: String,
    /// What it applies to.
    pub matches: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Changes to requests and responses.
    pub headers: HeaderMutations,
    /// What the caller attaches.
    pub extra: E,
}
