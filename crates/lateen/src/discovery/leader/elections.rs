//! What one replica does for all, each task with a Lease of its own: who does not do a task does not
//! stand for it, and so keeps it from nobody.

use futures::future::join_all;
use kube::{Api, Client};
use tokio::sync::watch;

use super::{Candidate, Election, conditional::Conditional, identity};
use crate::discovery::{Options, revisions::Known};

/// A task. The names of their Leases are Istio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Task {
    /// What the mesh's own objects are told, and entries of workloads that left without a word.
    Status,
    /// What objects of the Gateway API are told.
    GatewayStatus,
    /// What Ingresses are told.
    Ingress,
    /// The root certificate in every namespace.
    Namespaces,
    /// What Gateways run on: each revision has its own proxies.
    GatewayDeployment,
}

impl Task {
    fn lease(self) -> &'static str {
        match self {
            Task::Status => "istio-status-leader",
            Task::GatewayStatus => "istio-gateway-status-leader",
            Task::Ingress => "istio-leader",
            Task::Namespaces => "istio-namespace-controller-election",
            Task::GatewayDeployment => "istio-gateway-deployment",
        }
    }

    /// Whether each revision has a leader, instead of one for all.
    fn is_of_revision(self) -> bool {
        self == Task::GatewayDeployment
    }
}

/// Whether a Lease of this name is that of a task.
pub(crate) fn is_lease(name: &str) -> bool {
    let tasks = [
        Task::Status,
        Task::GatewayStatus,
        Task::Ingress,
        Task::Namespaces,
        Task::GatewayDeployment,
    ];
    tasks
        .into_iter()
        .any(|task| match name.strip_prefix(task.lease()) {
            Some("") => true,
            Some(revision) => task.is_of_revision() && revision.starts_with('-'),
            None => false,
        })
}

/// The elections in which a replica stands.
pub(in crate::discovery) struct Elections {
    client: Client,
    namespace: String,
    revision: String,
    revisions: Known,
    running: Vec<Election>,
    conditional: Vec<Conditional>,
}

impl Elections {
    pub(in crate::discovery) fn new(client: &Client, options: &Options, revisions: &Known) -> Self {
        Elections {
            client: client.clone(),
            namespace: options.namespace.clone(),
            revision: options.revision_name().to_owned(),
            revisions: revisions.clone(),
            running: Vec::new(),
            conditional: Vec::new(),
        }
    }

    /// Stands for a task: whether this replica is to do it, as it changes.
    pub(in crate::discovery) fn stand(&mut self, task: Task) -> watch::Receiver<bool> {
        let election = Election::start(self.candidate(task));
        let leading = election.leading();
        self.running.push(election);
        leading
    }

    /// The same, for a task that is there to be done only while `wanted` says so.
    pub(in crate::discovery) fn stand_while(
        &mut self,
        task: Task,
        wanted: watch::Receiver<bool>,
    ) -> watch::Receiver<bool> {
        let election = Conditional::start(self.candidate(task), wanted);
        let leading = election.leading();
        self.conditional.push(election);
        leading
    }

    fn candidate(&self, task: Task) -> Candidate {
        let name = match task.is_of_revision() {
            true => format!("{}-{}", task.lease(), self.revision),
            false => task.lease().to_owned(),
        };
        Candidate {
            leases: Api::namespaced(self.client.clone(), &self.namespace),
            name,
            identity: identity(),
            revisions: (!task.is_of_revision()).then(|| self.revisions.clone()),
        }
    }

    /// Leads nothing any more.
    pub(in crate::discovery) async fn resign(self) {
        let running = join_all(self.running.into_iter().map(Election::resign));
        let conditional = join_all(self.conditional.into_iter().map(Conditional::resign));
        futures::future::join(running, conditional).await;
    }
}
