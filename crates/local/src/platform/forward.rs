//! Connections that arrive on the host and are served in the node's network.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// How long a new connection waits for the ingress gateway to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Forwards each connection to the address that `target` names at that moment.
pub(super) async fn serve<F, T>(listener: TcpListener, target: F)
where
    F: Fn() -> T + Clone + Send + Sync + 'static,
    T: Future<Output = Option<SocketAddr>> + Send,
{
    loop {
        let (inbound, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept on the forwarded port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let target = target.clone();
        tokio::spawn(async move {
            if let Err(error) = forward(inbound, &target).await {
                debug!(%peer, %error, "forwarded connection ended");
            }
        });
    }
}

async fn forward<F, T>(mut inbound: TcpStream, target: &F) -> std::io::Result<()>
where
    F: Fn() -> T,
    T: Future<Output = Option<SocketAddr>>,
{
    let address = target().await.ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::NotConnected, "no ingress gateway")
    })?;
    let mut outbound = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    inbound.set_nodelay(true)?;
    outbound.set_nodelay(true)?;
    copy_bidirectional(&mut inbound, &mut outbound).await?;
    Ok(())
}

/// The address of the service that HTTP from the host goes to: the ingress gateway's first virtual address.
pub(super) fn ingress(
    client: kube::Client,
) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = Option<SocketAddr>> + Send>>
+ Clone
+ Send
+ Sync
+ 'static {
    let api: Api<Service> = Api::namespaced(client, "istio-system");
    move || {
        let api = api.clone();
        Box::pin(async move {
            let service = api.get_opt("istio-ingressgateway").await.ok()??;
            let ingress = service.status?.load_balancer?.ingress?;
            let ip = ingress.into_iter().find_map(|one| one.ip)?;
            Some(SocketAddr::new(ip.parse().ok()?, 80))
        })
    }
}
