//! Names of resource types and of resources, written and read in one place.
//!
//! Cluster names carry direction, port, subset and host; both planes and every debugging tool read
//! them back, so the format and its parser live together.

use std::fmt;
use std::str::FromStr;

use arcstr::ArcStr;
use lateen_core::Direction;

/// The prefix of every type URL.
pub const PREFIX: &str = "type.googleapis.com/";
/// The cluster that drops everything.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// The outbound cluster that goes where the client was going.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// The outbound cluster that goes to the host that the client names.
pub const DYNAMIC_DNS_CLUSTER: &str = "AllowAnyDynamicDNSCluster";
/// What stands in the place of the subset in names of clusters for datagrams, which may have the port
/// of one for connections. No subset is called so.
pub const DATAGRAMS: &str = "~udp";
/// The inbound cluster for ports that no service names.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The cluster of a proxy's own workload, by whose zones it finds out how much to keep in its own.
pub const LOCAL_CLUSTER: &str = "local_cluster";
/// The field of a node's metadata that asks for [`LOCAL_CLUSTER`], where it is `true`.
pub const SELF_DISCOVERY: &str = "ENABLE_SELF_DISCOVERY";
/// The listener that captured outbound connections arrive at.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The listener that captured inbound connections arrive at.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// The secret with the workload's certificate and key.
pub const SECRET_DEFAULT: &str = "default";
/// The secret with the mesh's roots.
pub const SECRET_ROOT: &str = "ROOTCA";
/// The name of what is laid over the bootstrap that an agent writes. A control plane that sends whole
/// bootstraps calls them otherwise.
pub const BOOTSTRAP_PARTS: &str = "lateen.io/bootstrap-parts";
/// The prefix of gateway credentials, which the control plane serves.
pub const SECRET_KUBERNETES: &str = "kubernetes://";
/// The end of a credential name that asks for the certificate authority part.
pub const SECRET_CA_SUFFIX: &str = "-cacert";

/// A type of resource, as a full type URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeUrl(ArcStr);

impl TypeUrl {
    /// Clusters (CDS).
    pub const CLUSTER: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ));
    /// Endpoints (EDS).
    pub const ENDPOINT: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    ));
    /// Listeners (LDS).
    pub const LISTENER: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.listener.v3.Listener"
    ));
    /// Route tables (RDS).
    pub const ROUTE: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    ));
    /// Virtual hosts of route tables (VHDS).
    pub const VIRTUAL_HOST: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.route.v3.VirtualHost"
    ));
    /// Secrets (SDS).
    pub const SECRET: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    ));
    /// Extension configurations (ECDS).
    pub const EXTENSION: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    ));

    /// The names that an agent answers (NDS), see [`crate::nds`].
    pub const NAME_TABLE: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/istio.networking.nds.v1.NameTable"
    ));

    /// Health of a workload outside of the platform. Its agent sends requests of this type and is
    /// answered nothing: one with an error says that the workload is not well.
    pub const HEALTH: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/istio.v1.HealthInformation"
    ));

    /// What proxies start from (BDS). Of this there is one resource, [`BOOTSTRAP_PARTS`].
    pub const BOOTSTRAP: TypeUrl = TypeUrl(arcstr::literal!(
        "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap"
    ));

    /// Istio's debug pages, by name.
    pub const DEBUG: TypeUrl = TypeUrl(arcstr::literal!("istio.io/debug"));

    /// The order in which a change must arrive so that nothing names what is not there yet.
    pub const PUSH_ORDER: [TypeUrl; 8] = [
        TypeUrl::CLUSTER,
        TypeUrl::ENDPOINT,
        TypeUrl::LISTENER,
        TypeUrl::ROUTE,
        TypeUrl::VIRTUAL_HOST,
        TypeUrl::SECRET,
        TypeUrl::EXTENSION,
        TypeUrl::NAME_TABLE,
    ];

    /// A type by its URL.
    pub fn new(url: impl AsRef<str>) -> TypeUrl {
        let url = url.as_ref();
        TypeUrl::PUSH_ORDER
            .into_iter()
            .find(|known| known.as_str() == url)
            .unwrap_or_else(|| TypeUrl(ArcStr::from(url)))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The message's full name, without the prefix.
    pub fn message(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or(&self.0)
    }

    /// What people call it: `CDS`, `EDS`, … or the message's full name.
    pub fn short(&self) -> &str {
        match self.message() {
            "envoy.config.cluster.v3.Cluster" => "CDS",
            "envoy.config.endpoint.v3.ClusterLoadAssignment" => "EDS",
            "envoy.config.listener.v3.Listener" => "LDS",
            "envoy.config.route.v3.RouteConfiguration" => "RDS",
            "envoy.config.route.v3.VirtualHost" => "VHDS",
            "envoy.extensions.transport_sockets.tls.v3.Secret" => "SDS",
            "envoy.config.core.v3.TypedExtensionConfig" => "ECDS",
            "istio.networking.nds.v1.NameTable" => "NDS",
            "envoy.config.bootstrap.v3.Bootstrap" => "BDS",
            other => other,
        }
    }

    /// Whether an empty first subscription means "everything" and a state-of-the-world response
    /// lists everything (clusters, listeners, names, bootstraps, single debug pages, and virtual hosts,
    /// which only our proxy asks for).
    pub fn is_wildcard(&self) -> bool {
        let all = [
            TypeUrl::CLUSTER,
            TypeUrl::LISTENER,
            TypeUrl::VIRTUAL_HOST,
            TypeUrl::NAME_TABLE,
            TypeUrl::BOOTSTRAP,
        ];
        all.contains(self) || self.debug_page().is_some()
    }

    /// The page that a type `istio.io/debug/PAGE` is for.
    pub fn debug_page(&self) -> Option<&str> {
        self.0
            .strip_prefix(TypeUrl::DEBUG.0.as_str())?
            .strip_prefix('/')
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The parts of a cluster name: `outbound|9080|v1|reviews.default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName {
    /// Towards other workloads, or towards the application of this one.
    pub direction: Direction,
    /// The service's port; inbound, the application's.
    pub port: u16,
    /// The subset, empty for the whole service.
    pub subset: String,
    /// The service's host, empty inbound.
    pub host: String,
}

/// A name that is not a cluster name of the mesh (a special or static cluster, say).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form direction|port|subset|host")]
pub struct NotAClusterName(pub String);

impl ClusterName {
    /// A cluster towards `host:port`, of one subset or (`""`) all.
    pub fn outbound(port: u16, subset: impl Into<String>, host: impl Into<String>) -> Self {
        ClusterName {
            direction: Direction::Outbound,
            port,
            subset: subset.into(),
            host: host.into(),
        }
    }

    /// Whether it is a cluster for datagrams.
    pub fn is_for_datagrams(&self) -> bool {
        self.subset == DATAGRAMS
    }

    /// The cluster towards the application's own port.
    pub fn inbound(port: u16) -> Self {
        ClusterName {
            direction: Direction::Inbound,
            port,
            subset: String::new(),
            host: String::new(),
        }
    }

    /// The form used as server name in mutual TLS, made of characters that DNS allows:
    /// `outbound_.9080_.v1_.reviews.default.svc.cluster.local`.
    pub fn sni(&self) -> String {
        let ClusterName {
            direction,
            port,
            subset,
            host,
        } = self;
        format!("{direction}_.{port}_.{subset}_.{host}")
    }

    /// Reads the name of a cluster, which is of either form.
    pub fn of_cluster(name: &str) -> Option<Self> {
        name.parse().or_else(|_| Self::from_sni(name)).ok()
    }

    /// Reads the server-name form back.
    ///
    /// # Errors
    /// When the name is not of that form.
    pub fn from_sni(name: &str) -> Result<Self, NotAClusterName> {
        parse(name, "_.")
    }
}

/// The service's host in the name of a cluster, which is of either form; empty inbound.
pub fn host_of_cluster(name: &str) -> Option<&str> {
    let parts = Parts::of(name, "|").or_else(|| Parts::of(name, "_."));
    parts.map(|parts| parts.host)
}

/// The parts of a cluster name where they lie.
struct Parts<'a> {
    direction: Direction,
    port: u16,
    subset: &'a str,
    host: &'a str,
}

impl<'a> Parts<'a> {
    fn of(name: &'a str, separator: &str) -> Option<Parts<'a>> {
        let mut parts = name.splitn(4, separator);
        Some(Parts {
            direction: match parts.next()? {
                "outbound" => Direction::Outbound,
                "inbound" => Direction::Inbound,
                _ => return None,
            },
            port: parts.next()?.parse().ok()?,
            subset: parts.next()?,
            host: parts.next()?,
        })
    }
}

fn parse(name: &str, separator: &str) -> Result<ClusterName, NotAClusterName> {
    let parts = Parts::of(name, separator);
    let parts = parts.ok_or_else(|| NotAClusterName(name.to_owned()))?;
    Ok(ClusterName {
        direction: parts.direction,
        port: parts.port,
        subset: parts.subset.to_owned(),
        host: parts.host.to_owned(),
    })
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClusterName {
            direction,
            port,
            subset,
            host,
        } = self;
        write!(f, "{direction}|{port}|{subset}|{host}")
    }
}

impl FromStr for ClusterName {
    type Err = NotAClusterName;

    fn from_str(name: &str) -> Result<Self, NotAClusterName> {
        parse(name, "|")
    }
}

/// `0.0.0.0_9080`, `10.0.0.1_3306`, `fd00::1_80`.
pub fn listener(address: impl fmt::Display, port: u16) -> String {
    format!("{address}_{port}")
}

/// The table of all services and all their ports, for clients that name both: those of a proxy.
pub const HTTP_PROXY_ROUTE: &str = "http_proxy";

/// What stands before the path of a socket in addresses, and in names of listeners and tables.
pub const UNIX: &str = "unix://";

/// Whether an address that configuration names is a socket in the file system to which it may lead.
pub fn is_usable_path(address: &str) -> bool {
    let path = address.strip_prefix(UNIX);
    path.is_some_and(|path| lateen_core::pipe::refusal(path).is_none())
}

/// `udp_0.0.0.0_53`: a listener for datagrams, beside which there may be one for connections.
pub fn datagram_listener(address: impl fmt::Display, port: u16) -> String {
    format!("udp_{address}_{port}")
}

/// Reads a listener name back into address and port.
pub fn parse_listener(name: &str) -> Option<(std::net::IpAddr, u16)> {
    let (address, port) = name.rsplit_once('_')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// The route table of all HTTP services that share an outbound port.
pub fn outbound_route(port: u16) -> String {
    port.to_string()
}

/// The route table of one service's port whose protocol is found by looking at the bytes.
pub fn sniffed_route(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// The route table of one inbound port.
pub fn inbound_route(port: u16) -> String {
    ClusterName::inbound(port).to_string()
}

/// The route table of a gateway's plain HTTP port, at an address of its own unless `bind` is empty.
pub fn gateway_http_route(port: u16, bind: &str) -> String {
    format!("http.{port}{}", Bind(bind))
}

/// The route table of one HTTPS server of a gateway, at an address of its own unless `bind` is empty.
pub fn gateway_https_route(
    port: u16,
    port_name: &str,
    gateway: &str,
    namespace: &str,
    bind: &str,
) -> String {
    format!(
        "https.{port}.{port_name}.{gateway}.{namespace}{}",
        Bind(bind)
    )
}

/// The end of a route table's name: the address, where there is one.
struct Bind<'a>(&'a str);

impl fmt::Display for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ".{}", self.0)
    }
}

/// A virtual host as a resource of its own: `9080/reviews.default.svc.cluster.local:9080`, the name
/// of its table before its own.
pub fn virtual_host(table: &str, host: &str) -> String {
    format!("{table}/{host}")
}

/// Reads the name of a virtual host back into its table's, which may have a path in it, and its own,
/// which has none.
pub fn parse_virtual_host(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('/')
}

/// A route table's name, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteName {
    /// `9080`
    Outbound(u16),
    /// `http_proxy`
    HttpProxy,
    /// `unix:///run/out`: of a listener at a socket in the file system
    Unix(String),
    /// `mysql.default.svc.cluster.local:3306`
    Sniffed {
        /// The service.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `inbound|9080||`
    Inbound(u16),
    /// `http.8080`, or `http.8080.10.0.0.1` at an address of its own
    GatewayHttp(u16),
    /// `https.443.https.bookinfo-gateway.default`
    GatewayHttps {
        /// The gateway's port.
        port: u16,
        /// The rest: port name, gateway and namespace.
        rest: String,
    },
}

impl RouteName {
    /// Reads a route table's name; `None` for a name of another form.
    pub fn parse(name: &str) -> Option<RouteName> {
        if let Ok(port) = name.parse() {
            return Some(RouteName::Outbound(port));
        }
        if name == HTTP_PROXY_ROUTE {
            return Some(RouteName::HttpProxy);
        }
        if name.starts_with(UNIX) {
            return Some(RouteName::Unix(name.to_owned()));
        }
        if let Some(rest) = name.strip_prefix("http.")
            && let Ok(port) = rest.split('.').next().unwrap_or_default().parse()
        {
            return Some(RouteName::GatewayHttp(port));
        }
        if let Some((port, rest)) = name.strip_prefix("https.").and_then(|r| r.split_once('.'))
            && let Ok(port) = port.parse()
        {
            return Some(RouteName::GatewayHttps {
                port,
                rest: rest.to_owned(),
            });
        }
        if let Ok(inbound) = name.parse::<ClusterName>() {
            return (inbound.direction == Direction::Inbound)
                .then_some(RouteName::Inbound(inbound.port));
        }
        let (host, port) = name.rsplit_once(':')?;
        Some(RouteName::Sniffed {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_round_trip() {
        let text = "outbound|9080|v1|reviews.default.svc.cluster.local";
        let name: ClusterName = text.parse().expect("well formed");
        assert_eq!(
            name,
            ClusterName::outbound(9080, "v1", "reviews.default.svc.cluster.local")
        );
        assert_eq!(name.to_string(), text);
        let sni = "outbound_.9080_.v1_.reviews.default.svc.cluster.local";
        assert_eq!(name.sni(), sni);
        assert_eq!(ClusterName::from_sni(sni).expect("well formed"), name);
        let host = Some("reviews.default.svc.cluster.local");
        assert_eq!((host_of_cluster(text), host_of_cluster(sni)), (host, host));
        assert_eq!(host_of_cluster("PassthroughCluster"), None);
        assert_eq!(ClusterName::inbound(9080).to_string(), "inbound|9080||");
        for bad in ["", "PassthroughCluster", "outbound|x||h", "outbound|1|a"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn route_names_are_told_apart() {
        let check = |name: &str, want: Option<RouteName>| {
            assert_eq!(RouteName::parse(name), want, "{name}");
        };
        check("9080", Some(RouteName::Outbound(9080)));
        check("http.8080", Some(RouteName::GatewayHttp(8080)));
        check(
            "https.443.https.gw.default",
            Some(RouteName::GatewayHttps {
                port: 443,
                rest: "https.gw.default".into(),
            }),
        );
        check("inbound|80||", Some(RouteName::Inbound(80)));
        check(
            "db.default.svc.cluster.local:3306",
            Some(RouteName::Sniffed {
                host: "db.default.svc.cluster.local".into(),
                port: 3306,
            }),
        );
        check("outbound|80||h", None);
        check("nonsense", None);
    }

    #[test]
    fn virtual_host_names_round_trip() {
        let name = virtual_host("9080", "reviews.default:9080");
        assert_eq!(name, "9080/reviews.default:9080");
        let read = Some(("9080", "reviews.default:9080"));
        assert_eq!(parse_virtual_host(&name), read);
        assert_eq!(parse_virtual_host("9080"), None);
        let at_path = virtual_host("unix:///run/out", "reviews:9080");
        let read = Some(("unix:///run/out", "reviews:9080"));
        assert_eq!(parse_virtual_host(&at_path), read);
    }

    #[test]
    fn listener_names_round_trip() {
        let v6: std::net::IpAddr = "fd00::1".parse().expect("address");
        assert_eq!(parse_listener(&listener(v6, 80)), Some((v6, 80)));
        assert_eq!(parse_listener("virtualOutbound"), None);
    }
}
