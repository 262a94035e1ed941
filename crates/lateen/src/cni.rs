//! The plugin of nodes that sets capture up in pods, instead of an init container in each of them.
//!
//! Two roles of the program. `istio-cni` is what a container runtime runs for each pod that comes or goes:
//! it asks the API server for the pod and writes the rules that the pod's container `istio-validation`
//! checks. `install-cni` runs on each node: it puts the plugin there, and sets capture up in pods that
//! were made before it.
//!
//! Invariants: a pod that is to be captured and is not does not start, as the container that checks does
//! not end well. A node's own network is never changed, whatever a runtime or a pod says. The plugin's
//! account writes nothing.

mod agent;
mod conflist;
mod kubeconfig;
mod network;
mod node;
mod plugin;
mod pod;
mod protocol;
mod repair;

pub(crate) use agent::main as agent;
pub(crate) use plugin::main as plugin;
