//! Hosts of names that DNS resolves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_decode::{DnsSpec, EndpointSpec};

/// Not more often than this, whatever the configuration says.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// After a failure, as Istio sets it for Envoy.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Resolves again and again; `found` gets every new list and says whether to go on. A name that does
/// not resolve keeps the addresses that it had, whatever becomes of the others.
pub(crate) async fn resolve_forever(
    spec: Arc<DnsSpec>,
    found: impl Fn(Vec<(SocketAddr, EndpointSpec)>) -> bool,
) {
    resolve_with(spec, lookup, tokio::time::sleep, found).await;
}

/// All addresses of a name.
pub(super) async fn lookup(name: impl AsRef<str>, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((name.as_ref(), port)).await?;
    Ok(found.collect())
}

async fn resolve_with<F, P>(
    spec: Arc<DnsSpec>,
    lookup: impl Fn(String, u16) -> F,
    pause: impl Fn(Duration) -> P,
    found: impl Fn(Vec<(SocketAddr, EndpointSpec)>) -> bool,
) where
    F: Future<Output = std::io::Result<Vec<SocketAddr>>>,
    P: Future<Output = ()>,
{
    let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); spec.endpoints.len()];
    let mut told = None;
    loop {
        let mut complete = true;
        for (endpoint, known) in spec.endpoints.iter().zip(&mut known) {
            if let Some(address) = endpoint.address() {
                *known = vec![address];
                continue;
            }
            match lookup(endpoint.host.clone(), endpoint.port).await {
                Ok(addresses) => *known = chosen(&spec, addresses),
                Err(error) => {
                    tracing::debug!(name = %endpoint.host, %error, "name not resolved");
                    complete = false;
                }
            }
        }
        if told.as_ref() != Some(&known) {
            told = Some(known.clone());
            if !found(hosts(&spec, &known)) {
                return;
            }
        }
        pause(if complete {
            spec.refresh.max(LEAST_REFRESH)
        } else {
            AFTER_FAILURE
        })
        .await;
    }
}

/// The addresses to use of those that a name has, in an order that does not change by itself.
fn chosen(spec: &DnsSpec, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if spec.logical {
        return first(spec.v4, spec.v6, addresses).into_iter().collect();
    }
    addresses.retain(|a| if a.is_ipv4() { spec.v4 } else { spec.v6 });
    addresses.sort_by_key(|a| (a.is_ipv6(), *a));
    addresses.dedup();
    addresses
}

/// The first address of these families, as the server meant it; IPv4 where there is a choice, since
/// networks that announce IPv6 and drop it are common.
pub(super) fn first(v4: bool, v6: bool, addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
    let of = |is_v4: bool| addresses.iter().find(move |a| a.is_ipv4() == is_v4);
    let chosen = of(true).filter(|_| v4);
    chosen.or_else(|| of(false).filter(|_| v6)).copied()
}

fn hosts(spec: &DnsSpec, known: &[Vec<SocketAddr>]) -> Vec<(SocketAddr, EndpointSpec)> {
    let endpoints = spec.endpoints.iter().zip(known);
    let hosts = endpoints.flat_map(|(endpoint, addresses)| {
        let mut with_name = endpoint.spec.clone();
        if with_name.hostname.is_empty() && endpoint.address().is_none() {
            with_name.hostname = endpoint.host.as_str().into();
        }
        addresses.iter().map(move |a| (*a, with_name.clone()))
    });
    hosts.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use lateen_decode::NamedEndpoint;

    fn spec(names: &[&str], logical: bool) -> Arc<DnsSpec> {
        let endpoint = |name: &&str| NamedEndpoint {
            host: (*name).to_owned(),
            port: 80,
            spec: EndpointSpec {
                hostname: arcstr::ArcStr::new(),
                weight: 1,
                priority: 0,
                locality: arcstr::ArcStr::new(),
                locality_weight: None,
                healthy: true,
                socket_match: Vec::new(),
                workload: None,
            },
        };
        Arc::new(DnsSpec {
            endpoints: names.iter().map(endpoint).collect(),
            logical,
            refresh: Duration::from_secs(1),
            v4: true,
            v6: false,
        })
    }

    /// What is told when names resolve to these answers, one after the other; the last one stays.
    async fn told(spec: Arc<DnsSpec>, answers: &[(&str, &[&str])], n_lists: usize) -> Vec<String> {
        let answers: Mutex<HashMap<String, Vec<String>>> = Mutex::new(
            answers
                .iter()
                .map(|(name, all)| {
                    let newest_last = all.iter().rev().map(|one| (*one).to_owned()).collect();
                    ((*name).to_owned(), newest_last)
                })
                .collect(),
        );
        let answers = &answers;
        let lookup = move |name: String, port: u16| async move {
            let mut answers = answers.lock().expect("no panic");
            let list = answers.get_mut(&name).expect("a name of the test");
            let answer = if list.len() > 1 {
                list.pop()
            } else {
                list.last().cloned()
            };
            match answer.as_deref() {
                None | Some("fails") => Err(std::io::ErrorKind::NotFound.into()),
                Some(list) => Ok(list
                    .split(' ')
                    .map(|ip| SocketAddr::new(ip.parse().expect("an address"), port))
                    .collect()),
            }
        };
        let lists = Mutex::new(Vec::new());
        let found = |list: Vec<(SocketAddr, EndpointSpec)>| {
            let text: Vec<_> = list.iter().map(|(a, _)| a.ip().to_string()).collect();
            let mut lists = lists.lock().expect("no panic");
            lists.push(text.join(" "));
            lists.len() < n_lists
        };
        resolve_with(spec, lookup, |_| std::future::ready(()), found).await;
        lists.into_inner().expect("no panic")
    }

    #[tokio::test]
    async fn a_name_that_fails_holds_up_no_other() {
        let answers: &[(&str, &[&str])] = &[("a", &["10.0.0.1", "10.0.0.2"]), ("b", &["fails"])];
        let lists = told(spec(&["a", "b"], false), answers, 2).await;
        assert_eq!(lists, ["10.0.0.1", "10.0.0.2"]);
        let answers: &[(&str, &[&str])] = &[("a", &["10.0.0.1", "fails", "10.0.0.3"])];
        let lists = told(spec(&["a"], false), answers, 2).await;
        assert_eq!(lists, ["10.0.0.1", "10.0.0.3"], "a failure keeps the list");
    }

    #[tokio::test]
    async fn the_order_of_answers_is_no_change_and_a_logical_name_has_one_address() {
        let answers: &[(&str, &[&str])] =
            &[("a", &["10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2", "10.0.0.3"])];
        let lists = told(spec(&["a"], false), answers, 2).await;
        assert_eq!(lists, ["10.0.0.1 10.0.0.2", "10.0.0.3"]);
        let answers: &[(&str, &[&str])] = &[("a", &["10.0.0.2 10.0.0.1", "::1 10.0.0.1"])];
        let lists = told(spec(&["a"], true), answers, 2).await;
        assert_eq!(lists, ["10.0.0.2", "10.0.0.1"]);
    }
}
