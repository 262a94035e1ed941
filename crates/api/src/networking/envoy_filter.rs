//! EnvoyFilter: changes to generated configuration, in today's form and in that of Istio 1.0.

use std::collections::BTreeMap;

use serde_json::Value;

use super::WorkloadSelector;
use crate::{
    schema::{enumeration, message},
    security::TargetRef,
};

message! {
    /// Patches for the proxies that are picked.
    pub struct EnvoyFilter where [Limit::AtMostOne(&["workloadSelector", "targetRefs"])] {
        /// Whose; none is the whole namespace, or the mesh in the root namespace.
        pub workload_selector: Option<WorkloadSelector>,
        /// What it is attached to instead.
        pub target_refs: Vec<TargetRef> where [Limit::MaxItems(16)],
        /// Patches, applied in this order.
        pub config_patches: Vec<EnvoyConfigObjectPatch> where [Limit::MaxItems(1024)],
        /// Smaller ones are applied first; then the older ones.
        pub priority: i32,
        /// Whose, in Istio 1.0.
        pub workload_labels: BTreeMap<String, String> where [Limit::MaxItems(256)],
        /// Filters to insert, in Istio 1.0.
        pub filters: Vec<EnvoyFilterFilter> where [Limit::MaxItems(1024)],
    }

    /// One patch.
    pub struct EnvoyConfigObjectPatch {
        /// What kind of object is patched.
        pub apply_to: ApplyTo,
        /// Which ones; none is all.
        pub r#match: Option<EnvoyConfigObjectMatch>,
        /// What is done.
        pub patch: Option<Patch>,
    }

    /// Which objects are patched. All parts must hold.
    pub struct EnvoyConfigObjectMatch where [
        Limit::AtMostOne(&["listener", "routeConfiguration", "cluster", "waypoint"]),
    ] {
        /// Where the object is used.
        pub context: PatchContext,
        /// Properties of the proxy.
        pub proxy: Option<ProxyMatch>,
        /// Properties of the listener.
        pub listener: Option<ListenerMatch>,
        /// Properties of the route table.
        pub route_configuration: Option<RouteConfigurationMatch>,
        /// Properties of the cluster.
        pub cluster: Option<ClusterMatch>,
        /// Properties of a waypoint's filters and routes.
        pub waypoint: Option<WaypointMatch>,
    }

    /// Properties of a proxy.
    pub struct ProxyMatch {
        /// RE2 expression for its version.
        pub proxy_version: String,
        /// Exact values of its node metadata.
        pub metadata: BTreeMap<String, String>,
    }

    /// Properties of a listener.
    pub struct ListenerMatch {
        /// Port of the service, or of the gateway.
        pub port_number: u32,
        /// Not used by any release.
        pub port_name: String,
        /// Which of its filter chains.
        pub filter_chain: Option<FilterChainMatch>,
        /// Which of its listener filters.
        pub listener_filter: String,
        /// Its name.
        pub name: String,
    }

    /// Properties of a filter chain.
    pub struct FilterChainMatch {
        /// Its name.
        pub name: String,
        /// One of its server names.
        pub sni: String,
        /// `raw_buffer` or `tls`.
        pub transport_protocol: String,
        /// Its ALPN protocols, with commas between them.
        pub application_protocols: String,
        /// A filter that it has.
        pub filter: Option<FilterMatch>,
        /// Its destination port.
        pub destination_port: u32,
    }

    /// Properties of a network filter.
    pub struct FilterMatch {
        /// Its name.
        pub name: String,
        /// A filter within it.
        pub sub_filter: Option<SubFilterMatch>,
    }

    /// Properties of a filter within a filter.
    pub struct SubFilterMatch {
        /// Its name.
        pub name: String,
    }

    /// Properties of a route table.
    pub struct RouteConfigurationMatch {
        /// Port that it is for.
        pub port_number: u32,
        /// Name of the gateway's port that it is for.
        pub port_name: String,
        /// `namespace/name` of the Gateway that it is for.
        pub gateway: String,
        /// Which of its virtual hosts.
        pub vhost: Option<VirtualHostMatch>,
        /// Its name.
        pub name: String,
    }

    /// Properties of a virtual host.
    pub struct VirtualHostMatch {
        /// Its name.
        pub name: String,
        /// One of its domains.
        pub domain_name: String,
        /// Which of its routes.
        pub route: Option<RouteMatch>,
    }

    /// Properties of a route.
    pub struct RouteMatch {
        /// Its name.
        pub name: String,
        /// What it does.
        pub action: RouteMatchAction,
    }

    /// Properties of a cluster.
    pub struct ClusterMatch {
        /// Port of its service.
        pub port_number: u32,
        /// Host of its service.
        pub service: String,
        /// Its subset.
        pub subset: String,
        /// Its name.
        pub name: String,
    }

    /// Properties of what a waypoint has.
    pub struct WaypointMatch {
        /// Which filter.
        pub filter: Option<FilterMatch>,
        /// Port of the service.
        pub port_number: u32,
        /// Which route.
        pub route: Option<WaypointRouteMatch>,
    }

    /// Properties of a waypoint's route.
    pub struct WaypointRouteMatch {
        /// Its name.
        pub name: String,
    }

    /// What is done to an object.
    pub struct Patch where [
        Limit::Rule(
            "!has(self.operation) || self.operation == 'REMOVE' || \
             self.operation == 'INVALID' || has(self.value)",
            "a patch that does not remove needs a value",
        ),
    ] {
        /// How.
        pub operation: PatchOperation,
        /// Envoy's message, or a part of it, as JSON.
        pub value: Value where [Limit::Object],
        /// Where among the filters of the mesh a filter is inserted.
        pub filter_class: FilterClass,
    }

    /// A filter to insert, in Istio 1.0.
    pub struct EnvoyFilterFilter {
        /// Into which listeners.
        pub listener_match: Option<FilterListenerMatch>,
        /// Where among the filters; none is at the end.
        pub insert_position: Option<InsertPosition>,
        /// HTTP or network.
        pub filter_type: FilterType,
        /// Its name in Envoy.
        pub filter_name: String,
        /// Its configuration.
        pub filter_config: Value where [Limit::Object],
    }

    /// Properties of a listener, in Istio 1.0.
    pub struct FilterListenerMatch {
        /// Port of the service, or of the gateway; zero is any.
        pub port_number: u32,
        /// Start of the port's name.
        pub port_name_prefix: String,
        /// Direction.
        pub listener_type: FilterListenerType,
        /// What it carries.
        pub listener_protocol: FilterListenerProtocol,
        /// Addresses that it is bound to.
        pub address: Vec<String>,
    }

    /// A place among filters, in Istio 1.0.
    pub struct InsertPosition {
        /// Where.
        pub index: InsertIndex,
        /// The filter that BEFORE and AFTER mean.
        pub relative_to: String,
    }
}

enumeration! {
    /// What kind of object a patch is for.
    pub enum ApplyTo {
        /// Not set.
        Invalid = "INVALID",
        /// A listener.
        Listener = "LISTENER",
        /// A filter chain.
        FilterChain = "FILTER_CHAIN",
        /// A network filter.
        NetworkFilter = "NETWORK_FILTER",
        /// A filter of the HTTP connection manager.
        HttpFilter = "HTTP_FILTER",
        /// A route table.
        RouteConfiguration = "ROUTE_CONFIGURATION",
        /// A virtual host.
        VirtualHost = "VIRTUAL_HOST",
        /// A route.
        HttpRoute = "HTTP_ROUTE",
        /// A cluster.
        Cluster = "CLUSTER",
        /// A filter configuration that is discovered.
        ExtensionConfig = "EXTENSION_CONFIG",
        /// What a proxy starts with.
        Bootstrap = "BOOTSTRAP",
        /// A listener filter.
        ListenerFilter = "LISTENER_FILTER",
    }

    /// Where an object is used.
    pub enum PatchContext {
        /// Anywhere.
        Any = "ANY",
        /// Inbound at a sidecar.
        SidecarInbound = "SIDECAR_INBOUND",
        /// Outbound at a sidecar.
        SidecarOutbound = "SIDECAR_OUTBOUND",
        /// At a gateway.
        Gateway = "GATEWAY",
        /// At a waypoint.
        Waypoint = "WAYPOINT",
    }

    /// What a route does.
    pub enum RouteMatchAction {
        /// Anything.
        Any = "ANY",
        /// Forwards.
        Route = "ROUTE",
        /// Redirects.
        Redirect = "REDIRECT",
        /// Answers itself.
        DirectResponse = "DIRECT_RESPONSE",
    }

    /// What is done to an object.
    pub enum PatchOperation {
        /// Not set.
        Invalid = "INVALID",
        /// Merged into it.
        Merge = "MERGE",
        /// Added to the list.
        Add = "ADD",
        /// Taken out.
        Remove = "REMOVE",
        /// Put before it.
        InsertBefore = "INSERT_BEFORE",
        /// Put after it.
        InsertAfter = "INSERT_AFTER",
        /// Put before all.
        InsertFirst = "INSERT_FIRST",
        /// Put in its place.
        Replace = "REPLACE",
        /// Merged into it, with lists replaced instead of added to.
        MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }

    /// Where among the filters of the mesh a filter stands.
    pub enum FilterClass {
        /// Where the operation says.
        Unspecified = "UNSPECIFIED",
        /// After authentication.
        Authn = "AUTHN",
        /// After authorization.
        Authz = "AUTHZ",
        /// Before the statistics.
        Stats = "STATS",
    }

    /// Kind of a filter, in Istio 1.0.
    pub enum FilterType {
        /// Not set.
        Invalid = "INVALID",
        /// Of the HTTP connection manager.
        Http = "HTTP",
        /// Of a filter chain.
        Network = "NETWORK",
    }

    /// Direction of a listener, in Istio 1.0.
    pub enum FilterListenerType {
        /// Any.
        Any = "ANY",
        /// Inbound at a sidecar.
        SidecarInbound = "SIDECAR_INBOUND",
        /// Outbound at a sidecar.
        SidecarOutbound = "SIDECAR_OUTBOUND",
        /// At a gateway.
        Gateway = "GATEWAY",
    }

    /// What a listener carries, in Istio 1.0.
    pub enum FilterListenerProtocol {
        /// Anything.
        All = "ALL",
        /// HTTP.
        Http = "HTTP",
        /// Other TCP.
        Tcp = "TCP",
    }

    /// A place among filters, in Istio 1.0.
    pub enum InsertIndex {
        /// Before all.
        First = "FIRST",
        /// After all.
        Last = "LAST",
        /// Before the one named.
        Before = "BEFORE",
        /// After the one named.
        After = "AFTER",
    }
}
