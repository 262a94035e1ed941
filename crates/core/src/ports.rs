//! The mesh's well-known ports. All are Istio's, so that probes, scrape
//! configurations and firewalls written for it keep working.

/// The proxy's administration interface, on loopback.
pub const ADMIN: u16 = 15000;
/// Captured outbound traffic arrives here (`virtualOutbound`).
pub const OUTBOUND: u16 = 15001;
/// Captured inbound traffic arrives here (`virtualInbound`).
pub const INBOUND: u16 = 15006;
/// HBONE, the mesh's HTTP/2 CONNECT tunnel.
pub const HBONE: u16 = 15008;
/// xDS in plaintext.
pub const XDS_PLAINTEXT: u16 = 15010;
/// xDS and the certificate authority, over TLS.
pub const XDS_TLS: u16 = 15012;
/// The control plane's metrics and version.
pub const CONTROL_PLANE_METRICS: u16 = 15014;
/// The control plane's webhooks: `/inject` and `/validate`.
pub const WEBHOOK: u16 = 15017;
/// The agent: merged metrics, application probes, drain.
pub const AGENT_STATUS: u16 = 15020;
/// Readiness of the proxy: `/healthz/ready`.
pub const PROXY_READY: u16 = 15021;
/// The agent's DNS proxy, on loopback.
pub const DNS: u16 = 15053;
/// The proxy's own metrics: `/stats/prometheus`.
pub const PROXY_METRICS: u16 = 15090;
/// Routing by SNI between networks.
pub const EAST_WEST: u16 = 15443;
/// The control plane's debug interface and readiness.
pub const CONTROL_PLANE_DEBUG: u16 = 8080;
/// Where the control plane's log is changed, on loopback alone.
pub const CONTROLZ: u16 = 9876;

/// User and group that the sidecar runs as, and the mark on its sockets:
/// traffic of this user, group or mark is not captured again.
pub const PROXY_UID: u32 = 1337;
