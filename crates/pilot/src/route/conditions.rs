//! Conditions of matches that are about the client or the listener: they are decided where a rule is
//! made into what a proxy gets.

use std::collections::BTreeMap;

use lateen_api::networking::{
    HttpMatchRequest, L4MatchAttributes, TlsMatchAttributes, gateway_key,
};

/// What a match asks of the client and of the listener.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'a> {
    gateways: &'a [String],
    port: Option<u32>,
    source_labels: &'a BTreeMap<String, String>,
    source_namespace: &'a str,
}

macro_rules! conditions_from {
    ($($of:ty),*) => {
        $(impl<'a> From<&'a $of> for Conditions<'a> {
            fn from(of: &'a $of) -> Self {
                Conditions {
                    gateways: &of.gateways,
                    port: of.port,
                    source_labels: &of.source_labels,
                    source_namespace: &of.source_namespace,
                }
            }
        })*
    };
}

conditions_from!(HttpMatchRequest, TlsMatchAttributes, L4MatchAttributes);

/// What conditions are held against. To a rule the client is the workload of the proxy, which may be a
/// gateway.
#[derive(Clone, Copy)]
pub(crate) struct There<'a> {
    /// The namespace of the rule.
    pub(crate) home: &'a str,
    /// `mesh`, or `namespace/name` of the gateway that the rule is bound to.
    pub(crate) gateway: &'a str,
    /// The port that is asked for.
    pub(crate) port: u16,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) namespace: &'a str,
}

/// A condition that does not hold: what it wants, and what there is.
#[derive(Debug)]
pub(crate) enum Unmet<'a> {
    /// `mesh`, or `namespace/name`.
    Gateway(&'a [String], &'a str),
    Port(u32, u16),
    /// The key of the label, its value, and the client's.
    Label(&'a str, &'a str, Option<&'a String>),
    Namespace(&'a str, &'a str),
}

impl<'a> Conditions<'a> {
    /// The first that does not hold.
    pub(crate) fn unmet(self, there: There<'a>) -> Option<Unmet<'a>> {
        let own = |gateway: &String| gateway_key(gateway, there.home) == there.gateway;
        if !self.gateways.is_empty() && !self.gateways.iter().any(own) {
            return Some(Unmet::Gateway(self.gateways, there.gateway));
        }
        if let Some(port) = self.port.filter(|port| *port != u32::from(there.port)) {
            return Some(Unmet::Port(port, there.port));
        }
        let labels = there.labels;
        let mut wanted = self.source_labels.iter();
        if let Some((key, value)) = wanted.find(|(key, value)| labels.get(*key) != Some(*value)) {
            return Some(Unmet::Label(key, value, labels.get(key)));
        }
        let source = self.source_namespace;
        let is_met = source.is_empty() || source == there.namespace;
        (!is_met).then_some(Unmet::Namespace(source, there.namespace))
    }
}
