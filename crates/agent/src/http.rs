//! A small HTTP client for the agent's own errands: probes, metrics, the administration interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use lateen_tls::{ClientOptions, Connector, Identity, IdentityStore, ServerCheck};
use tokio::net::{TcpSocket, TcpStream};

/// Metrics of a large application; everything else is far smaller.
const MAX_BODY: usize = 64 << 20;
/// The source address of connections within a pod that are not to be captured.
const UNCAPTURED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// The same of IPv6, which capture adds to the loop-back interface.
const UNCAPTURED_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request on a connection of its own. `https` URLs are not verified, as by the kubelet:
/// the peer is the application in this pod.
pub(crate) async fn send(request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer, String> {
    match tokio::time::timeout(limit, exchange(request)).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// A GET without further headers.
pub(crate) async fn get(url: &str, limit: Duration) -> Result<Answer, String> {
    let request = Request::get(url)
        .body(Full::default())
        .map_err(|e| e.to_string())?;
    send(request, limit).await
}

async fn exchange(mut request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or("the URL has no host")?.to_owned();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    if !request.headers().contains_key("host") {
        let authority = uri.authority().ok_or("the URL has no host")?.as_str();
        request.headers_mut().insert("host", authority.parse()?);
    }
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    let tcp = dial(host.trim_matches(['[', ']']), port).await?;
    if tls {
        let store = IdentityStore::new(Identity::roots_only("")?);
        let options = ClientOptions {
            check: ServerCheck::Insecure,
            ..ClientOptions::default()
        };
        let connector = Connector::new(std::sync::Arc::new(store), options);
        return talk(connector.connect(tcp, None).await?, request).await;
    }
    talk(tcp, request).await
}

/// Connects, most often to this pod. A connection to the pod's own address would be captured as
/// inbound traffic; Istio's capture rules leave those from [`UNCAPTURED`] alone.
pub(crate) async fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) if is_own(ip) => ip,
        _ => return TcpStream::connect((host, port)).await,
    };
    let socket = if ip.is_ipv4() {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((UNCAPTURED, 0)))?;
        socket
    } else {
        let socket = TcpSocket::new_v6()?;
        // Where capture could not add the address, the connection is one of any other.
        let _ = socket.bind(SocketAddr::from((UNCAPTURED_V6, 0)));
        socket
    };
    socket.connect(SocketAddr::from((ip, port))).await
}

/// Whether it is an address of this machine that is captured. Only those can be bound, and no other
/// machine is reached from [`UNCAPTURED`], which is an address of loopback.
fn is_own(ip: IpAddr) -> bool {
    !ip.is_loopback() && UdpSocket::bind((ip, 0)).is_ok()
}

async fn talk<IO>(io: IO, request: Request<Full<Bytes>>) -> Result<Answer, Failure>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    // Its errors also reach the request, which reports them.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_addresses_are_called_from_the_address_that_is_not_captured() {
        // For documentation (RFC 5737): no machine has it.
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert!(!is_own(Ipv4Addr::LOCALHOST.into()), "it is not captured");
        // The same of IPv6 (RFC 3849).
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert!(!is_own(other.into()) && !is_own(Ipv6Addr::LOCALHOST.into()));
        // The address by which this machine reaches others, where it has one.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_ok()
            && let Ok(own) = socket.local_addr()
        {
            assert!(is_own(own.ip()), "{own}");
        }
    }
}
