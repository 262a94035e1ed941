//! The files in `/etc` that a pod's containers share: host names and where names are looked up.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::ResourceExt;

use super::write_file;
use crate::Error;
use crate::net::DNS_IP;

/// Writes them.
pub(super) fn write_etc(pod: &Pod, ip: Ipv4Addr, etc: &Path) -> Result<(), Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let hostname = spec.hostname.clone().unwrap_or_else(|| pod.name_any());
    let namespace = pod.namespace().unwrap_or_default();
    let mut hosts =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let fqdn = spec
        .subdomain
        .as_ref()
        .map(|sub| format!("{hostname}.{sub}.{namespace}.svc.cluster.local\t"));
    hosts.push_str(&format!("{ip}\t{}{hostname}\n", fqdn.unwrap_or_default()));
    for alias in spec.host_aliases.iter().flatten() {
        hosts.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.clone().unwrap_or_default().join("\t")
        ));
    }
    fs::create_dir_all(etc).map_err(Error::io("create a pod's files"))?;
    write_file(&etc.join("hosts"), hosts.as_bytes(), 0o644)?;
    write_file(
        &etc.join("hostname"),
        format!("{hostname}\n").as_bytes(),
        0o644,
    )?;
    write_file(
        &etc.join("resolv.conf"),
        resolv_conf(&spec, &namespace).as_bytes(),
        0o644,
    )
}

fn resolv_conf(spec: &PodSpec, namespace: &str) -> String {
    let config = spec.dns_config.clone().unwrap_or_default();
    let cluster = spec.dns_policy.as_deref() != Some("None");
    let mut servers = config.nameservers.unwrap_or_default();
    let mut searches = config.searches.unwrap_or_default();
    let mut options: Vec<String> = Vec::new();
    if cluster {
        servers.insert(0, DNS_IP.to_string());
        let own = ["svc.cluster.local", "cluster.local"].map(str::to_owned);
        searches.splice(
            0..0,
            std::iter::once(format!("{namespace}.svc.cluster.local")).chain(own),
        );
        options.push("ndots:5".into());
    }
    for option in config.options.unwrap_or_default() {
        let name = option.name.unwrap_or_default();
        options.retain(|have| have.split(':').next() != Some(&name));
        options.push(
            option
                .value
                .map_or_else(|| name.clone(), |value| format!("{name}:{value}")),
        );
    }
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resolv_conf_of_policies() {
        let spec = |value| serde_json::from_value(value).unwrap();
        assert_eq!(
            resolv_conf(&spec(json!({"containers": []})), "shop"),
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        let none = spec(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}}));
        assert_eq!(
            resolv_conf(&none, "shop"),
            "nameserver 1.1.1.1\noptions ndots:2\n"
        );
    }
}
