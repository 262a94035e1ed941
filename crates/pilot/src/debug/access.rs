//! Who may see which page.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use lateen_core::SpiffeId;
use lateen_xds::server::Peer;
use tonic::Code;

use super::Fault;
use crate::auth::{Authenticate, is_local};
use crate::discovery::Discovery;
use crate::source::Client;

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Caller {
    /// Somebody in the same network namespace, who could read the process's memory as well.
    Local,
    /// A workload that has proved who it is.
    Workload(SpiffeId),
    /// Somebody on the plaintext port.
    Nobody,
}

impl Caller {
    /// Who is behind a stream.
    pub(crate) fn of(client: &Client) -> Caller {
        match &client.identity {
            _ if client.is_local => Caller::Local,
            Some(identity) => Caller::Workload(identity.clone()),
            None => Caller::Nobody,
        }
    }
}

/// Pages that a workload may see of the proxies of its own namespace. As in Istio.
const OF_OWN_NAMESPACE: [&str; 3] = ["config_dump", "edsz", "ndsz"];

/// Finds out who asks: from the loopback address anybody, else whoever has a certificate or a token.
pub(super) async fn caller(auth: &dyn Authenticate, head: Parts) -> Result<Caller, Fault> {
    let address = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let address = address.map(|ConnectInfo(address)| *address);
    if is_local(address) {
        return Ok(Caller::Local);
    }
    let request = tonic::Request::from_http(Request::from_parts(head, ()));
    let (metadata, extensions, ()) = request.into_parts();
    let peer = Peer {
        metadata,
        extensions,
        address,
    };
    match auth.authenticate(&peer).await {
        Ok(Some(identity)) => Ok(Caller::Workload(identity)),
        Ok(None) => Err(unknown("nobody can prove who they are on this port")),
        Err(status) if status.code() == Code::Unavailable => {
            let why = format!("cannot tell who you are: {}", status.message());
            Err(Fault(StatusCode::SERVICE_UNAVAILABLE, why))
        }
        Err(status) => Err(unknown(status.message())),
    }
}

fn unknown(why: &str) -> Fault {
    let help = "send a service account's token for the mesh (audience istio-ca, or TOKEN_AUDIENCES) as `authorization: Bearer`, or \
                ask from inside the pod (kubectl port-forward)";
    Fault(StatusCode::UNAUTHORIZED, format!("{why}; {help}"))
}

/// The control plane's own namespace sees everything, others what concerns their own proxies.
pub(super) fn check(
    discovery: &Discovery,
    caller: &Caller,
    page: &str,
    query: &BTreeMap<String, String>,
) -> Result<(), Fault> {
    let identity = match caller {
        Caller::Local => return Ok(()),
        Caller::Nobody => return Err(unknown("the plaintext port does not tell who you are")),
        Caller::Workload(identity) => identity,
    };
    if *identity.namespace == *discovery.namespace() {
        return Ok(());
    }
    let denied = |why: &str| {
        let why = format!("{identity} may not see /debug/{page}: {why}");
        Err(Fault(StatusCode::FORBIDDEN, why))
    };
    if !OF_OWN_NAMESPACE.contains(&page) {
        return denied(
            "outside the control plane's namespace there are config_dump, edsz and ndsz",
        );
    }
    let proxy = query
        .get("proxyID")
        .map(|wanted| super::find(discovery, wanted));
    match proxy {
        Some(Some(of)) if *of.client.proxy.namespace == *identity.namespace => Ok(()),
        // Whether there is a proxy of that name elsewhere is nobody's business.
        _ => denied("name a connected proxy of its own namespace with ?proxyID="),
    }
}
