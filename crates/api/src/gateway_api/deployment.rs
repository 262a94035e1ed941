//! What runs a Gateway.

use std::collections::BTreeMap;

/// What a Gateway needs to run, where the mesh makes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayDeployment {
    /// Namespace of the Gateway and of everything that is made.
    pub namespace: String,
    /// Name of the Gateway.
    pub gateway: String,
    /// Its unique id, by which what is made is owned.
    pub uid: String,
    /// Name of its class.
    pub class: String,
    /// The revision that it names, or else its namespace; empty for none.
    pub revision: String,
    /// Name of everything that is made.
    pub name: String,
    /// Name of the account that its proxies run as; empty is that of everything that is made.
    pub account: String,
    /// Type of the Service; empty is LoadBalancer.
    pub service_type: String,
    /// The address that the load balancer is asked for; empty is any.
    pub address: String,
    /// Ports of its listeners: name, number and protocol, one of each number.
    pub ports: Vec<(String, u32, String)>,
    /// Labels of everything that is made.
    pub labels: BTreeMap<String, String>,
    /// Annotations of everything that is made.
    pub annotations: BTreeMap<String, String>,
}

impl GatewayDeployment {
    /// Name of the account that its proxies run as.
    pub fn account(&self) -> &str {
        match self.account.as_str() {
            "" => &self.name,
            named => named,
        }
    }
}
