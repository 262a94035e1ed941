//! The flags and variables of `istio-iptables`, and what they mean.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;

use crate::config::{Config, Dns, Ranges, nameservers};
use crate::error::Error;

/// Set up the redirection of a pod's traffic to its proxy.
#[derive(Debug, Parser)]
#[command(name = "istio-iptables", disable_version_flag = true)]
pub(super) struct Args {
    /// Port of the proxy that takes outbound TCP
    #[arg(
        short = 'p',
        long = "envoy-port",
        env = "PROXY_PORT",
        default_value_t = 15001
    )]
    proxy_port: u16,
    /// Port of the proxy that takes inbound TCP
    #[arg(
        short = 'z',
        long,
        env = "INBOUND_CAPTURE_PORT",
        default_value_t = 15006
    )]
    inbound_capture_port: u16,
    /// Port of inbound tunnels, which are not redirected
    #[arg(
        short = 'e',
        long,
        env = "INBOUND_TUNNEL_PORT",
        default_value_t = 15008
    )]
    inbound_tunnel_port: u16,
    /// Users that the proxy runs as, by number, with commas between them
    #[arg(short = 'u', long, env = "PROXY_UID", default_value = "")]
    proxy_uid: String,
    /// Groups that the proxy runs as, by number, with commas between them
    #[arg(short = 'g', long, env = "PROXY_GID", default_value = "")]
    proxy_gid: String,
    /// How inbound connections are led to the proxy; only REDIRECT is supported
    #[arg(
        short = 'm',
        long = "istio-inbound-interception-mode",
        env = "ISTIO_INBOUND_INTERCEPTION_MODE",
        default_value = "REDIRECT"
    )]
    inbound_interception_mode: String,
    /// Inbound ports to capture: numbers with commas between them, or *
    #[arg(
        short = 'b',
        long = "istio-inbound-ports",
        env = "ISTIO_INBOUND_PORTS",
        default_value = "*"
    )]
    inbound_ports: String,
    /// Inbound ports to leave alone, if all are captured
    #[arg(
        short = 'd',
        long = "istio-local-exclude-ports",
        env = "ISTIO_LOCAL_EXCLUDE_PORTS",
        default_value = ""
    )]
    local_exclude_ports: String,
    /// Interfaces whose traffic is left alone
    #[arg(
        short = 'c',
        long = "istio-exclude-interfaces",
        env = "ISTIO_EXCLUDE_INTERFACES",
        default_value = ""
    )]
    exclude_interfaces: String,
    /// Destinations to capture: CIDRs with commas between them, or *
    #[arg(
        short = 'i',
        long = "istio-service-cidr",
        env = "ISTIO_SERVICE_CIDR",
        default_value = "*"
    )]
    service_cidr: String,
    /// Destinations to leave alone
    #[arg(
        short = 'x',
        long = "istio-service-exclude-cidr",
        env = "ISTIO_SERVICE_EXCLUDE_CIDR",
        default_value = ""
    )]
    service_exclude_cidr: String,
    /// Destination ports to capture whatever the address
    #[arg(
        short = 'q',
        long = "istio-outbound-ports",
        env = "ISTIO_OUTBOUND_PORTS",
        default_value = ""
    )]
    outbound_ports: String,
    /// Destination ports to leave alone
    #[arg(
        short = 'o',
        long = "istio-local-outbound-ports-exclude",
        env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
        default_value = ""
    )]
    outbound_ports_exclude: String,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound
    #[arg(
        short = 'k',
        long = "kube-virt-interfaces",
        env = "KUBE_VIRT_INTERFACES",
        default_value = ""
    )]
    reroute_virtual_interfaces: String,
    /// Mark for TPROXY, which is not supported; taken so that templates that set it work
    #[arg(
        short = 't',
        long = "istio-inbound-tproxy-mark",
        env = "ISTIO_INBOUND_TPROXY_MARK",
        default_value = "1337"
    )]
    tproxy_mark: String,
    /// Route table for TPROXY, which is not supported; taken so that templates that set it work
    #[arg(
        short = 'r',
        long = "istio-inbound-tproxy-route-table",
        env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE",
        default_value = "133"
    )]
    tproxy_route_table: String,
    /// Mark of sockets that are the proxy's own, beside user and group; 0 for none
    #[arg(long, env = "PROXY_MARK", default_value_t = 1337)]
    proxy_mark: u32,
    /// Print the rules instead of writing them
    #[arg(short = 'n', long, env = "DRY_RUN")]
    pub(super) dry_run: bool,
    /// Do not write the rules (to check those that are there)
    #[arg(long, env = "SKIP_RULE_APPLY")]
    pub(super) skip_rule_apply: bool,
    /// Check by a connection that the rules work, and exit with 126 if not
    #[arg(long, env = "RUN_VALIDATION")]
    pub(super) run_validation: bool,
    /// Port that the check dials
    #[arg(long, env = "IPTABLES_PROBE_PORT", default_value_t = 15002)]
    pub(super) iptables_probe_port: u16,
    /// How long the check may take
    #[arg(long, env = "PROBE_TIMEOUT", default_value = "5s")]
    pub(super) probe_timeout: Span,
    /// Capture DNS queries to the name servers of /etc/resolv.conf
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE")]
    redirect_dns: bool,
    /// With --redirect-dns, capture queries to any name server
    #[arg(long, env = "CAPTURE_ALL_DNS")]
    capture_all_dns: bool,
    /// Drop packets that connection tracking cannot place
    #[arg(long, env = "INVALID_DROP")]
    drop_invalid: bool,
    /// Also capture IPv6 (it always is)
    #[arg(long, env = "DUAL_STACK")]
    dual_stack: bool,
    /// Remove the rules and do nothing else
    #[arg(long, env = "CLEANUP_ONLY")]
    pub(super) cleanup_only: bool,
    /// Write the rules even if some are there; they always are replaced at once
    #[arg(long, env = "FORCE_APPLY")]
    force_apply: bool,
    /// Put the rules right if they differ; they always are
    #[arg(long, env = "RECONCILE")]
    reconcile: bool,
    /// Use nf_tables; it always is
    #[arg(long, env = "NATIVE_NFTABLES")]
    native_nftables: bool,
    /// Set up another namespace than the current one; not supported
    #[arg(long, env = "NETWORK_NAMESPACE", default_value = "")]
    network_namespace: String,
    /// Run as a network plugin; not supported
    #[arg(long, env = "CNI_MODE")]
    cni_mode: bool,
    /// Name of an iptables binary; there is none to be forced
    #[arg(long, env = "FORCE_IPTABLES_BINARY", default_value = "")]
    force_iptables_binary: String,
    /// Log packets that meet the rules; not supported
    #[arg(long, env = "IPTABLES_TRACE_LOGGING")]
    iptables_trace_logging: bool,
    /// Log level; taken so that templates that set it work
    #[arg(long = "log_output_level", default_value = "")]
    log_output_level: String,
    /// Loop-back network whose destinations are left alone
    #[arg(
        long,
        hide = true,
        env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        default_value = "127.0.0.1/32"
    )]
    loopback_cidr: String,
    /// Groups whose connections are captured: numbers with commas between them, or *
    #[arg(
        long,
        hide = true,
        env = "ISTIO_OUTBOUND_OWNER_GROUPS",
        default_value = "*"
    )]
    owner_groups: String,
    /// Groups whose connections are left alone, if those of all are captured
    #[arg(
        long,
        hide = true,
        env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
        default_value = ""
    )]
    owner_groups_exclude: String,
}

impl Args {
    /// What the flags ask for.
    pub(super) fn config(&self) -> Result<Config, Error> {
        self.refuse_unsupported()?;
        let dns = match (self.redirect_dns, self.capture_all_dns) {
            (false, _) => Dns::Off,
            (true, true) => Dns::All,
            (true, false) => Dns::Servers(nameservers(Path::new("/etc/resolv.conf"))),
        };
        Ok(Config {
            proxy_port: self.proxy_port,
            inbound_port: self.inbound_capture_port,
            tunnel_port: self.inbound_tunnel_port,
            proxy_uids: owners("--proxy-uid", &self.proxy_uid)?,
            proxy_gids: owners("--proxy-gid", &self.proxy_gid)?,
            proxy_mark: Some(self.proxy_mark).filter(|mark| *mark != 0),
            owner_groups: ranges(&self.owner_groups, |text| {
                groups("ISTIO_OUTBOUND_OWNER_GROUPS", text)
            })?,
            exclude_owner_groups: groups(
                "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
                &self.owner_groups_exclude,
            )?,
            inbound_ports: ranges(&self.inbound_ports, |text| {
                ports("--istio-inbound-ports", text)
            })?,
            exclude_inbound_ports: ports("--istio-local-exclude-ports", &self.local_exclude_ports)?,
            exclude_interfaces: names(&self.exclude_interfaces),
            outbound_ranges: ranges(&self.service_cidr, |text| {
                nets("--istio-service-cidr", text)
            })?,
            exclude_outbound_ranges: nets(
                "--istio-service-exclude-cidr",
                &self.service_exclude_cidr,
            )?,
            outbound_ports: ports("--istio-outbound-ports", &self.outbound_ports)?,
            exclude_outbound_ports: ports(
                "--istio-local-outbound-ports-exclude",
                &self.outbound_ports_exclude,
            )?,
            virtual_interfaces: names(&self.reroute_virtual_interfaces),
            dns,
            drop_invalid: self.drop_invalid,
            loopback: net("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", &self.loopback_cidr)?,
            ..Config::default()
        })
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        let mode = self.inbound_interception_mode.as_str();
        let refused = [
            (
                !matches!(mode, "REDIRECT" | ""),
                format!("interception mode {mode}"),
            ),
            (self.cni_mode, "--cni-mode".to_owned()),
            (
                !self.network_namespace.is_empty(),
                "--network-namespace".to_owned(),
            ),
            (
                !self.force_iptables_binary.is_empty(),
                "--force-iptables-binary".to_owned(),
            ),
            (
                self.iptables_trace_logging,
                "--iptables-trace-logging".to_owned(),
            ),
        ];
        match refused.into_iter().find(|(asked, _)| *asked) {
            Some((_, what)) => Err(Error::NotSupported { what }),
            None => Ok(()),
        }
    }
}

/// The standard proxy user where none is given.
const PROXY_OWNER: u32 = 1337;

fn owners(option: &'static str, text: &str) -> Result<Vec<u32>, Error> {
    let owners = groups(option, text)?;
    Ok(if owners.is_empty() {
        vec![PROXY_OWNER]
    } else {
        owners
    })
}

/// By number: a name would be that of the container that sets capture up, not of the application's.
fn groups(option: &'static str, text: &str) -> Result<Vec<u32>, Error> {
    list(option, text, "a list of user or group numbers")
}

fn ranges<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<Vec<T>, Error>,
) -> Result<Ranges<T>, Error> {
    // A star anywhere in the list means all.
    if names(text).iter().any(|name| name == "*") {
        Ok(Ranges::All)
    } else {
        parse(text).map(Ranges::Only)
    }
}

fn ports(option: &'static str, text: &str) -> Result<Vec<u16>, Error> {
    list(option, text, "a list of ports")
}

fn nets(option: &'static str, text: &str) -> Result<Vec<IpNet>, Error> {
    names(text).iter().map(|name| net(option, name)).collect()
}

/// A CIDR, or an address that stands for itself.
fn net(option: &'static str, text: &str) -> Result<IpNet, Error> {
    let address = || {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| IpNet::from(address))
    };
    text.parse()
        .ok()
        .or_else(address)
        .ok_or_else(|| Error::BadValue {
            option,
            value: text.to_owned(),
            expected: "a CIDR such as 10.0.0.0/8",
        })
}

fn list<T: FromStr>(
    option: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<Vec<T>, Error> {
    let parse = |name: &String| {
        name.parse().map_err(|_| Error::BadValue {
            option,
            value: name.clone(),
            expected,
        })
    };
    names(text).iter().map(parse).collect()
}

fn names(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A length of time written as 5s, 500ms or 1m.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a duration"))?;
        match unit {
            "ms" => Ok(Self(Duration::from_millis(number))),
            "s" | "" => Ok(Self(Duration::from_secs(number))),
            "m" => Ok(Self(Duration::from_secs(number.saturating_mul(60)))),
            _ => Err(format!("{text:?} is not a duration such as 5s or 500ms")),
        }
    }
}

#[cfg(test)]
mod tests;
