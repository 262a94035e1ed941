//! What one replica does for all: statuses, and what Gateways run on. Who does not do a task, by its
//! flags or its mesh, does not stand for its Lease.

use std::sync::Arc;

use kube::Client;
use lateen_api::mesh::IngressControllerMode;
use lateen_core::{Hostname, ServiceId};
use lateen_galley::{ConfigSet, Galley};
use lateen_injector::Params;
use lateen_pilot::Discovery;
use lateen_registry::{Registry, StatusPace, StatusWriter};
use lateen_tls::IdentityStore;
use tokio::sync::watch;

use super::{
    Options, analysis, gateways,
    leader::{self, Elections, Task},
    replicas::Replicas,
    revisions::Known,
    statuses::{Addresses, Statuses},
};

/// What the tasks are started with.
pub(super) struct Led<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a Options,
    pub(super) registry: &'a Registry,
    pub(super) galley: &'a Galley,
    pub(super) elections: &'a mut Elections,
}

impl Led<'_> {
    /// Objects of files have no status.
    fn is_of_api_server(&self) -> bool {
        self.options.config_dir.is_none()
    }

    /// Stands for a task that is done where objects have a status.
    fn stand(&mut self, task: Task) -> watch::Receiver<bool> {
        match self.is_of_api_server() {
            true => self.elections.stand(task),
            false => watch::channel(false).1,
        }
    }

    /// Who writes what the mesh's own objects are told, and whether this replica does so.
    pub(super) fn statuses(&mut self) -> (StatusWriter, watch::Receiver<bool>) {
        let leading = self.stand(Task::Status);
        let writer = StatusWriter::start(self.client, &leading, StatusPace::default());
        (writer, leading)
    }

    /// What Gateways run on, and what those of the Gateway API and Ingresses are told.
    pub(super) fn gateways(
        &mut self,
        statuses: &StatusWriter,
        params: watch::Receiver<Arc<Params>>,
        revisions: Known,
    ) {
        let environment = &self.options.environment;
        let (deploys, has_statuses) = (
            environment.gateway_deployments,
            environment.gateway_statuses,
        );
        if deploys {
            let leading = self.elections.stand(Task::GatewayDeployment);
            let deployer = gateways::Deployer::new(
                self.client,
                self.galley,
                params,
                revisions,
                leading,
                environment.gateway_class,
            );
            tokio::spawn(deployer.run());
        }
        let ingresses = match self.is_of_api_server() {
            true => {
                let are_read = ingresses_are_read(self.galley.config());
                self.elections.stand_while(Task::Ingress, are_read)
            }
            false => watch::channel(false).1,
        };
        let gateways = match has_statuses {
            true => self.stand(Task::GatewayStatus),
            false => watch::channel(false).1,
        };
        let writer = |leading| statuses.beside(self.client, leading, StatusPace::default());
        let writers = gateways::Writers {
            gateways: writer(&gateways),
            ingresses: writer(&ingresses),
        };
        tokio::spawn(gateways::keep_statuses(self.galley.gateways(), writers));
    }

    /// What the mesh's own objects are told. `identity` is shown to the other replicas.
    pub(super) fn objects(
        &self,
        discovery: &Discovery,
        writer: StatusWriter,
        leading: watch::Receiver<bool>,
        identity: Arc<IdentityStore>,
    ) {
        if !self.is_of_api_server() {
            return;
        }
        tokio::spawn(Addresses::new(self.registry, writer.clone()).run());
        let namespace = &self.options.namespace;
        let service = own_service(self.options);
        let replicas = Replicas::new(namespace, service, leader::identity(), identity);
        let analysis = analysis::start(self.client, self.options, self.registry, &leading);
        let statuses = Statuses::new(
            self.registry,
            discovery,
            writer,
            leading,
            replicas,
            analysis,
        );
        tokio::spawn(statuses.run());
    }
}

/// Whether the mesh has Ingresses, as its configuration changes.
fn ingresses_are_read(mut config: watch::Receiver<Arc<ConfigSet>>) -> watch::Receiver<bool> {
    let reads = |config: &ConfigSet| {
        config.mesh.ingress_controller_mode != Some(IngressControllerMode::Off)
    };
    let (are_read_tx, are_read) = watch::channel(reads(&config.borrow_and_update()));
    tokio::spawn(async move {
        while config.changed().await.is_ok() {
            let now = reads(&config.borrow_and_update());
            are_read_tx.send_if_modified(|held| std::mem::replace(held, now) != now);
        }
    });
    are_read
}

/// The Service of this revision, whose endpoints are its replicas.
fn own_service(options: &Options) -> ServiceId {
    let name = options.revisioned("istiod");
    let hostname = Hostname::service(&name, &options.namespace, &options.domain);
    ServiceId::new(&*options.namespace, hostname)
}

#[cfg(test)]
mod tests {
    use lateen_api::mesh::MeshConfig;

    use super::*;

    #[tokio::test]
    async fn the_mesh_says_whether_there_are_ingresses() {
        let mesh = |mode| {
            let mesh = MeshConfig {
                ingress_controller_mode: mode,
                ..MeshConfig::default()
            };
            Arc::new(ConfigSet {
                mesh: Arc::new(mesh),
                ..ConfigSet::default()
            })
        };
        let (config_tx, config) = watch::channel(mesh(Some(IngressControllerMode::Off)));
        let mut are_read = ingresses_are_read(config);
        assert!(!*are_read.borrow());
        for (mode, expect) in [
            (None, true),
            (Some(IngressControllerMode::Off), false),
            (Some(IngressControllerMode::Strict), true),
        ] {
            config_tx.send_replace(mesh(mode));
            are_read.changed().await.expect("it is kept");
            assert_eq!(*are_read.borrow_and_update(), expect, "{mode:?}");
        }
    }
}
