//! Services, workloads and endpoints, wherever they come from.
//!
//! Each platform is folded to the same immutable [`World`]; nothing behind this crate knows which
//! platform a service came from. One task writes, readers hold an `Arc`.

mod model;

pub use model::{
    Endpoint, EndpointKey, Namespace, Node, Resolution, Service, ServicePort, TargetPort, Workload,
    WorkloadOwner, World,
};
