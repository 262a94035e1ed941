//! Hosts of names that DNS resolves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::DnsSpec;
use crate::decode::EndpointSpec;

/// Not more often than this, whatever the configuration says.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// After a failure, as Istio sets it for Envoy.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Resolves again and again; `found` gets every new list and says whether to go on. A failure keeps
/// the last good list.
pub(crate) async fn resolve_forever(
    spec: Arc<DnsSpec>,
    found: impl Fn(Vec<(SocketAddr, EndpointSpec)>) -> bool,
) {
    let mut last: Vec<SocketAddr> = Vec::new();
    let mut first = true;
    loop {
        let (list, complete) = resolve(&spec).await;
        let mut addresses: Vec<SocketAddr> = list.iter().map(|(address, _)| *address).collect();
        addresses.sort();
        let usable = complete || (first && !list.is_empty());
        if (usable && addresses != last) || first {
            last = addresses;
            if !found(list) {
                return;
            }
        }
        first = false;
        tokio::time::sleep(if complete {
            spec.refresh.max(LEAST_REFRESH)
        } else {
            AFTER_FAILURE
        })
        .await;
    }
}

async fn resolve(spec: &DnsSpec) -> (Vec<(SocketAddr, EndpointSpec)>, bool) {
    let mut list = Vec::new();
    let mut complete = true;
    for endpoint in &spec.endpoints {
        if let Some(address) = endpoint.address() {
            list.push((address, endpoint.spec.clone()));
            continue;
        }
        let mut with_name = endpoint.spec.clone();
        if with_name.hostname.is_empty() {
            with_name.hostname = endpoint.host.as_str().into();
        }
        match tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await {
            Ok(found) => {
                let family = |a: &SocketAddr| if a.is_ipv4() { spec.v4 } else { spec.v6 };
                let mut found: Vec<SocketAddr> = found.filter(family).collect();
                // IPv4 first: networks that announce IPv6 and drop it are common.
                found.sort_by_key(SocketAddr::is_ipv6);
                found.dedup();
                if spec.logical {
                    found.truncate(1);
                }
                list.extend(
                    found
                        .into_iter()
                        .map(|address| (address, with_name.clone())),
                );
            }
            Err(error) => {
                tracing::debug!(name = %endpoint.host, %error, "name not resolved");
                complete = false;
            }
        }
    }
    (list, complete)
}
