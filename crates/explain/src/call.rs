//! The request or connection that is asked about.

use std::borrow::Cow;
use std::net::SocketAddr;

use lateen_route::RequestView;

/// A call as it reaches a proxy.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it goes.
    pub destination: SocketAddr,
    /// Where it comes from.
    pub source: SocketAddr,
    /// True where it comes to the proxy's own workload.
    pub inbound: bool,
    /// How it is secured.
    pub security: Security,
    /// False for bytes that are no HTTP.
    pub http: bool,
    /// True for a datagram.
    pub udp: bool,
    /// That HTTP/2 is spoken without TLS; under TLS, `alpn` says it.
    pub h2: bool,
    /// The method.
    pub method: String,
    /// The authority, port included.
    pub authority: String,
    /// The path with the query.
    pub target: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// What is drawn for shares of requests.
    pub random: u64,
}

/// How a connection is secured when it reaches the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// By the caller's own TLS.
    Tls {
        /// The name that it asks for.
        server_name: Option<String>,
        /// The protocols that it offers.
        alpn: Vec<String>,
        /// Whether the caller has a certificate that whoever asks for one takes.
        certificate: bool,
    },
    /// By the mesh: the caller has a sidecar.
    Mesh,
}

/// Why a text is no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// It has another form.
    #[error(
        "{0:?} is not of the form http://HOST[:PORT]/PATH, https://HOST[:PORT], tcp://HOST:PORT or \
         udp://HOST:PORT"
    )]
    Form(String),
    /// The scheme is none of these.
    #[error("scheme {0:?} is not supported: http, https (TLS of the caller's own), tcp or udp")]
    Scheme(String),
    /// Nobody has that name.
    #[error("no service and no address is called {0:?}; give the address with --to")]
    Unknown(String),
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub scheme: String,
    pub host: String,
    pub port: u16,
    pub target: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Url, BadCall> {
        let form = || BadCall::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let default = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "tcp" | "udp" => None,
            other => return Err(BadCall::Scheme(other.to_owned())),
        };
        let (authority, target) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| form())?)),
            None => (authority, default),
        };
        if host.is_empty() {
            return Err(form());
        }
        Ok(Url {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port: port.ok_or_else(form)?,
            target: target.to_owned(),
        })
    }

    /// As clients write it: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        match (self.scheme.as_str(), self.port) {
            ("http", 80) | ("https", 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl RequestView for Call {
    fn authority(&self) -> &str {
        &self.authority
    }

    fn method(&self) -> &str {
        &self.method
    }

    fn scheme(&self) -> &'static str {
        match self.security {
            Security::Plain => "http",
            Security::Tls { .. } | Security::Mesh => "https",
        }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let values = self.headers.iter().filter(|(key, _)| key == name);
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| Cow::Owned(values.join(",").into_bytes()))
    }
}
