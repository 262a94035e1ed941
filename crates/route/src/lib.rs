//! Pure matching: which route a request takes, which filter chain a connection takes, and what
//! becomes of paths, hosts and headers on the way.
//!
//! Invariant: no I/O, no clock and no random source; whatever is drawn is passed in. The control
//! plane explains with the same code by which the data plane decides.

mod action;
mod chains;
mod config;
mod datagram;
mod error;
mod matcher;
mod rewrite;
mod table;
mod why;

pub use action::{
    Action, ClusterChoice, DirectResponse, Forward, HashPolicy, HeaderMutation, HeaderMutations,
    HeaderOption, Mirror, PathRedirect, Redirect, RetryOn, RetryPolicy, Target, Weighted,
    WeightedClusters,
};
pub use chains::{ChainMatch, ChainMiss, Chains, ConnectionView, Criterion, Prefix};
pub use config::{RouteConfig, RouteSpec, VirtualHostSpec};
pub use datagram::{DatagramPart, DatagramRoutes, DatagramRule, DatagramTest};
pub use error::RouteError;
pub use matcher::{
    Fraction, HeaderMatch, HeaderTest, Matcher, Miss, PathMatch, PathMatcher, QueryMatch,
    RequestView, RouteMatch, StringMatch, StringTest,
};
pub use rewrite::{HostRewrite, PathRewrite, RegexRewrite};
pub use table::{Host, Route, RouteTable, without_port};
pub use why::{HostChoice, RouteChoice};
