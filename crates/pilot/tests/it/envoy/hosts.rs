//! Services and endpoints that are not simply there.

use std::sync::Arc;

use lateen_core::Protocol;
use lateen_galley::ConfigSet;
use lateen_registry::World;
use serde_json::Value;

use super::{Oracle, has};
use crate::fixture::{EVERYTHING, Mesh, config};

const NETWORKS: &str = "networks: {there: {endpoints: [{fromCidr: 10.244.0.0/16}], gateways: \
                        [{address: 203.0.113.1}]}}";

impl Oracle {
    /// Envoy takes what there is beyond plain services.
    pub(super) async fn check_hosts(&mut self) {
        let mut mesh = Mesh::bookinfo();
        for (n, name) in ["given-a", "given-b"].into_iter().enumerate() {
            mesh.service(name, &[], &[("tcp", 9100, 9100, Protocol::Tcp)]);
            mesh.change(name, |service| {
                let address = format!("240.240.0.{}", n + 1);
                service.allocated = vec![address.parse().expect("an address")];
            });
        }
        self.show(mesh.world, with_networks()).await;
        let listeners = self.active("dynamic_listeners").await;
        has(&listeners, "240.240.0.1_9100");
        has(&listeners, "240.240.0.2_9100");
        // The pods are in another network, so all of them are behind its gateway.
        let reviews = "outbound|9080||reviews.default.svc.cluster.local";
        assert_eq!(self.hosts_of(reviews).await, ["203.0.113.1:15443"]);

        let plain = Arc::new(config(EVERYTHING));
        self.show(Mesh::bookinfo().world, plain).await;
        let hosts = self.hosts_of(reviews).await;
        assert!(
            hosts.iter().all(|host| host.starts_with("10.244.0.")),
            "{hosts:?}"
        );
    }

    async fn show(&mut self, world: World, config: Arc<ConfigSet>) {
        self.world.send_replace(Arc::new(world));
        self.config.send_replace(config);
        self.settled().await;
    }

    /// The addresses of a cluster's endpoints.
    async fn hosts_of(&self, cluster: &str) -> Vec<String> {
        let all = self.admin("/clusters?format=json").await.expect("clusters");
        let clusters = all["cluster_statuses"].as_array().expect("a list");
        let found = clusters.iter().find(|status| status["name"] == cluster);
        let hosts = found.expect("the cluster")["host_statuses"].as_array();
        let address = |host: &Value| {
            let of = &host["address"]["socket_address"];
            format!(
                "{}:{}",
                of["address"].as_str().unwrap_or("?"),
                of["port_value"]
            )
        };
        hosts.into_iter().flatten().map(address).collect()
    }
}

fn with_networks() -> Arc<ConfigSet> {
    let mut with = config(EVERYTHING);
    with.networks = Arc::new(serde_saphyr::from_str(NETWORKS).expect("networks"));
    Arc::new(with)
}
