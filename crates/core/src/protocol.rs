//! Protocols of service ports, and how they are told from a port's name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 if the client upgrades.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web over HTTP/1.1.
    GrpcWeb,
    /// HTTP spoken to a forward proxy.
    HttpProxy,
    /// HTTP over TLS that the application terminates.
    Https,
    /// TLS that the application terminates.
    Tls,
    /// Any bytes over TCP.
    Tcp,
    /// MongoDB's wire protocol, carried as TCP.
    Mongo,
    /// Redis' protocol, carried as TCP.
    Redis,
    /// MySQL's protocol, carried as TCP: the server speaks first.
    MySql,
    /// Datagrams, which the mesh does not carry.
    Udp,
    /// Not declared: found out from the first bytes of each connection.
    Unsupported,
}

/// Ports whose servers speak first, so that sniffing would wait forever.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// The protocol that a name stands for, as in `protocol: HTTP` of a gateway's port.
    pub fn parse(name: &str) -> Option<Protocol> {
        let protocol = match name.to_ascii_lowercase().as_str() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "http_proxy" => Protocol::HttpProxy,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            "mongo" => Protocol::Mongo,
            "redis" => Protocol::Redis,
            "mysql" => Protocol::MySql,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some(protocol)
    }

    /// The protocol of a Kubernetes service port: its transport, then
    /// `appProtocol`, then the name's prefix, then the well-known number.
    pub fn of_port(name: &str, app_protocol: Option<&str>, transport: &str, port: u16) -> Protocol {
        if transport.eq_ignore_ascii_case("udp") {
            return Protocol::Udp;
        }
        let declared = match app_protocol {
            Some("kubernetes.io/h2c") => Some(Protocol::Http2),
            Some("kubernetes.io/ws") => Some(Protocol::Http),
            Some("kubernetes.io/wss") => Some(Protocol::Https),
            Some(other) => Protocol::from_prefix(other),
            None => Protocol::from_prefix(name),
        };
        match declared {
            Some(Protocol::Udp) | None if SERVER_FIRST_PORTS.contains(&port) => Protocol::Tcp,
            Some(Protocol::Udp) | None => Protocol::Unsupported,
            Some(protocol) => protocol,
        }
    }

    /// `http-web` and `http` are HTTP; `grpc-web-x` is gRPC-Web, not gRPC.
    fn from_prefix(name: &str) -> Option<Protocol> {
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Some(Protocol::GrpcWeb);
        }
        Protocol::parse(lower.split('-').next().unwrap_or_default())
    }

    /// Whether requests can be told apart and routed.
    pub const fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http
                | Protocol::Http2
                | Protocol::Grpc
                | Protocol::GrpcWeb
                | Protocol::HttpProxy
        )
    }

    /// Whether the server side must be spoken to in HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc)
    }

    /// Whether the port carries bytes that are routed by connection alone.
    pub const fn is_tcp(self) -> bool {
        matches!(
            self,
            Protocol::Tcp
                | Protocol::Https
                | Protocol::Tls
                | Protocol::Mongo
                | Protocol::Redis
                | Protocol::MySql
        )
    }

    /// Whether the application brings its own TLS, so that routing can go by SNI.
    pub const fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Whether the first bytes of a connection decide.
    pub const fn is_unsupported(self) -> bool {
        matches!(self, Protocol::Unsupported)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http => "HTTP",
            Protocol::Http2 => "HTTP2",
            Protocol::Grpc => "GRPC",
            Protocol::GrpcWeb => "GRPC-Web",
            Protocol::HttpProxy => "HTTP_PROXY",
            Protocol::Https => "HTTPS",
            Protocol::Tls => "TLS",
            Protocol::Tcp => "TCP",
            Protocol::Mongo => "Mongo",
            Protocol::Redis => "Redis",
            Protocol::MySql => "MySQL",
            Protocol::Udp => "UDP",
            Protocol::Unsupported => "UnsupportedProtocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_tells_its_protocol() {
        let check = |name, app, transport, port, expect| {
            assert_eq!(
                Protocol::of_port(name, app, transport, port),
                expect,
                "{name} {app:?} {port}"
            );
        };
        check("http", None, "TCP", 9080, Protocol::Http);
        check("HTTP-web", None, "TCP", 9080, Protocol::Http);
        check("http2-x", None, "TCP", 80, Protocol::Http2);
        check("grpc-web", None, "TCP", 80, Protocol::GrpcWeb);
        check("grpc-web-x", None, "TCP", 80, Protocol::GrpcWeb);
        check("grpc-x", None, "TCP", 80, Protocol::Grpc);
        check("web", None, "TCP", 80, Protocol::Unsupported);
        check("", None, "TCP", 3306, Protocol::Tcp);
        check("http", Some("tcp"), "TCP", 80, Protocol::Tcp);
        check("x", Some("kubernetes.io/h2c"), "TCP", 80, Protocol::Http2);
        check("http", None, "UDP", 53, Protocol::Udp);
    }
}
