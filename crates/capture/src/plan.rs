//! The rules of a sidecar, as tables.
//!
//! The chains bear the names that people know from the iptables form, and the order of the rules is
//! that of the original, because the order is the meaning: the proxy's own traffic first, then what
//! stays on the loop-back interface, then what is excluded, then what is captured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nix::errno::Errno;

use crate::config::{Config, Dns, Ranges};
use crate::error::Error;
use crate::loopback::{self, Change};
use crate::nft::{
    self, Batch, Chain, ChainType, Family, Hook, L4, Rule, Table, ct_state, priority,
};

/// The table with the address translation.
const NAT_TABLE: &str = "istio-proxy-nat";
/// The table with the connection-tracking zones of captured DNS.
const RAW_TABLE: &str = "istio-proxy-raw";
/// The table that drops packets which connection tracking cannot place.
const FILTER_TABLE: &str = "istio-proxy-filter";

const OUTPUT: &str = "ISTIO_OUTPUT";
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
const INBOUND: &str = "ISTIO_INBOUND";
const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const DNS_PORT: u16 = 53;

/// Writes the rules into the network namespace of the calling thread, in place of earlier ones.
///
/// # Errors
/// If the kernel refuses them; then the earlier ones still hold.
pub fn apply(config: &Config) -> Result<(), Error> {
    let tables = plan(config);
    let mut batch = Batch::new();
    for name in [NAT_TABLE, RAW_TABLE, FILTER_TABLE] {
        batch = batch.delete_if_exists(Family::Inet, name);
    }
    for table in &tables {
        batch = batch.append(table);
    }
    batch.commit()?;
    if config.ipv6 {
        // Without it the proxy cannot connect to the application by IPv6, and nothing else is lost.
        if let Err(error) = loopback::change(Change::Add) {
            tracing::info!(%error, "the loop-back interface has no ::6: IPv6 does not come in");
        }
    }
    Ok(())
}

/// Removes the rules from the network namespace of the calling thread, if there are any.
///
/// # Errors
/// If the kernel refuses.
pub fn cleanup() -> Result<(), Error> {
    let mut batch = Batch::new();
    for name in [NAT_TABLE, RAW_TABLE, FILTER_TABLE] {
        batch = batch.delete_if_exists(Family::Inet, name);
    }
    batch.commit()?;
    if let Err(error) = loopback::change(Change::Remove) {
        tracing::debug!(%error, "::6 is not taken from the loop-back interface");
    }
    Ok(())
}

/// Whether there are rules in the network namespace of the calling thread. As they are written at once,
/// they are all there.
///
/// # Errors
/// If the kernel does not say.
pub fn is_applied() -> Result<bool, Error> {
    // Nothing is asked, as a change that cannot be made says the same: a table that is made and deleted
    // in one transaction never was there, and one that is there cannot be made.
    let batch = Batch::new().create(Family::Inet, NAT_TABLE);
    match batch.delete(Family::Inet, NAT_TABLE).commit() {
        Ok(()) => Ok(false),
        Err(nft::Error::Refused {
            errno: Errno::EEXIST,
            ..
        }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The tables that [`apply`] writes.
#[must_use]
pub fn plan(config: &Config) -> Vec<Table> {
    let mut tables = vec![nat(config)];
    if config.dns != Dns::Off {
        tables.push(raw(config));
    }
    if config.drop_invalid {
        tables.push(filter());
    }
    tables
}

fn nat(config: &Config) -> Table {
    let mut table = Table::new(Family::Inet, NAT_TABLE);
    let base = |name, hook| Chain::base(name, ChainType::Nat, hook, priority::DSTNAT);
    table.add_chain(base("prerouting", Hook::Prerouting));
    table.add_chain(base("output", Hook::Output));
    for name in [INBOUND, REDIRECT, IN_REDIRECT, OUTPUT] {
        table.add_chain(Chain::regular(name));
    }
    table.add_rule(
        REDIRECT,
        only_ipv4(config, Rule::new())
            .l4proto(L4::Tcp)
            .redirect(config.proxy_port),
    );
    table.add_rule(
        IN_REDIRECT,
        only_ipv4(config, Rule::new())
            .l4proto(L4::Tcp)
            .redirect(config.inbound_port),
    );
    prerouting(&mut table, config);
    inbound(&mut table, config);
    for name in &config.exclude_interfaces {
        table.add_rule("output", Rule::new().oif(name).ret());
    }
    table.add_rule("output", Rule::new().jump(OUTPUT));
    output_own(&mut table, config);
    output_groups(&mut table, config);
    output_dns(&mut table, config);
    output_rest(&mut table, config);
    table
}

fn only_ipv4(config: &Config, rule: Rule) -> Rule {
    if config.ipv6 { rule } else { rule.ipv4() }
}

fn prerouting(table: &mut Table, config: &Config) {
    for name in &config.exclude_interfaces {
        table.add_rule("prerouting", Rule::new().iif(name).ret());
    }
    for name in &config.virtual_interfaces {
        match &config.outbound_ranges {
            Ranges::All => {
                table.add_rule(
                    "prerouting",
                    Rule::new().iif(name).l4proto(L4::Tcp).jump(REDIRECT),
                );
            }
            Ranges::Only(nets) => {
                for net in nets {
                    table.add_rule(
                        "prerouting",
                        Rule::new()
                            .iif(name)
                            .l4proto(L4::Tcp)
                            .daddr(*net)
                            .jump(REDIRECT),
                    );
                }
            }
        }
        table.add_rule("prerouting", Rule::new().iif(name).l4proto(L4::Tcp).ret());
    }
    table.add_rule("prerouting", Rule::new().l4proto(L4::Tcp).jump(INBOUND));
}

fn inbound(table: &mut Table, config: &Config) {
    table.add_rule(
        INBOUND,
        Rule::new().dport(L4::Tcp, config.tunnel_port).ret(),
    );
    match &config.inbound_ports {
        Ranges::All => {
            for port in &config.exclude_inbound_ports {
                table.add_rule(INBOUND, Rule::new().dport(L4::Tcp, *port).ret());
            }
            table.add_rule(INBOUND, Rule::new().l4proto(L4::Tcp).jump(IN_REDIRECT));
        }
        Ranges::Only(ports) => {
            for port in ports {
                table.add_rule(INBOUND, Rule::new().dport(L4::Tcp, *port).jump(IN_REDIRECT));
            }
        }
    }
}

/// What tells the proxy's own sockets from the application's.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Mark(u32),
    User(u32),
    Group(u32),
}

impl Owner {
    fn is(self, rule: Rule) -> Rule {
        match self {
            Self::Mark(mark) => rule.mark(mark),
            Self::User(uid) => rule.skuid(uid),
            Self::Group(gid) => rule.skgid(gid),
        }
    }

    fn is_not(self, rule: Rule) -> Rule {
        match self {
            Self::Mark(mark) => rule.not_mark(mark),
            Self::User(uid) => rule.not_skuid(uid),
            Self::Group(gid) => rule.not_skgid(gid),
        }
    }
}

/// The proxy's connections go out as they are, except those to the pod itself through a service's
/// address: they come back in as any inbound connection would.
fn output_own(table: &mut Table, config: &Config) {
    table.add_rule(
        OUTPUT,
        Rule::new().oif("lo").saddr(host([127, 0, 0, 6])).ret(),
    );
    if config.ipv6 {
        let six = loopback::FROM_PROXY;
        table.add_rule(
            OUTPUT,
            Rule::new()
                .oif("lo")
                .saddr(IpNet::new_assert(six.into(), 128))
                .ret(),
        );
    }
    // A marked socket is decided here whatever its user, so the rules after these are as they would
    // be without a mark.
    if let Some(mark) = config.proxy_mark {
        self_calls(table, config, Owner::Mark(mark), true);
        table.add_rule(OUTPUT, Owner::Mark(mark).is(Rule::new()).ret());
    }
    let users = config
        .proxy_uids
        .iter()
        .map(|uid| (Owner::User(*uid), true));
    let groups = config
        .proxy_gids
        .iter()
        .map(|gid| (Owner::Group(*gid), false));
    for (owner, except_dns) in users.chain(groups) {
        self_calls(table, config, owner, except_dns);
        let stays = owner.is_not(Rule::new().oif("lo"));
        let stays = if except_dns && config.dns != Dns::Off {
            stays.not_dport(L4::Tcp, DNS_PORT)
        } else {
            stays.l4proto(L4::Tcp)
        };
        table.add_rule(OUTPUT, stays.ret());
        table.add_rule(OUTPUT, owner.is(Rule::new()).ret());
    }
}

fn self_calls(table: &mut Table, config: &Config, owner: Owner, except_dns: bool) {
    let mut ports = vec![config.tunnel_port];
    if except_dns && config.dns != Dns::Off {
        ports.push(DNS_PORT);
    }
    let rule = |loopback| {
        let rule = Rule::new()
            .oif("lo")
            .not_daddr(loopback)
            .not_dport(L4::Tcp, ports.clone());
        owner.is(rule).jump(IN_REDIRECT)
    };
    table.add_rule(OUTPUT, rule(config.loopback));
    if config.ipv6 {
        table.add_rule(OUTPUT, rule(loopback_v6()));
    }
}

/// Of other sockets, those of some groups may be all that is captured, or what is left alone.
fn output_groups(table: &mut Table, config: &Config) {
    match &config.owner_groups {
        Ranges::All => {
            for gid in &config.exclude_owner_groups {
                table.add_rule(OUTPUT, Owner::Group(*gid).is(Rule::new()).ret());
            }
        }
        Ranges::Only(groups) => {
            let owners = groups.iter().map(|gid| Owner::Group(*gid));
            let others = owners.fold(Rule::new(), |rule, owner| owner.is_not(rule));
            table.add_rule(OUTPUT, others.ret());
        }
    }
}

fn output_dns(table: &mut Table, config: &Config) {
    if config.dns == Dns::Off {
        return;
    }
    table.add_chain(Chain::regular(OUTPUT_DNS));
    for protocol in [L4::Tcp, L4::Udp] {
        table.add_rule(
            OUTPUT,
            Rule::new().dport(protocol, DNS_PORT).jump(OUTPUT_DNS),
        );
        for rule in dns_targets(config) {
            table.add_rule(
                OUTPUT_DNS,
                rule.dport(protocol, DNS_PORT).redirect(config.dns_port),
            );
        }
    }
}

/// One rule for each name server whose queries are captured, or one for all.
fn dns_targets(config: &Config) -> Vec<Rule> {
    match &config.dns {
        Dns::Off => Vec::new(),
        Dns::All => vec![Rule::new()],
        Dns::Servers(servers) => {
            let usable = servers
                .iter()
                .filter(|server| config.ipv6 || server.is_ipv4());
            usable
                .map(|server| Rule::new().daddr(IpNet::from(*server)))
                .collect()
        }
    }
}

fn output_rest(table: &mut Table, config: &Config) {
    table.add_rule(OUTPUT, Rule::new().daddr(config.loopback).ret());
    if config.ipv6 {
        table.add_rule(OUTPUT, Rule::new().daddr(loopback_v6()).ret());
    }
    for port in &config.exclude_outbound_ports {
        table.add_rule(OUTPUT, Rule::new().dport(L4::Tcp, *port).ret());
        table.add_rule(OUTPUT, Rule::new().dport(L4::Udp, *port).ret());
    }
    for net in &config.exclude_outbound_ranges {
        table.add_rule(OUTPUT, Rule::new().daddr(*net).ret());
    }
    for port in &config.outbound_ports {
        table.add_rule(OUTPUT, Rule::new().dport(L4::Tcp, *port).jump(REDIRECT));
    }
    match &config.outbound_ranges {
        Ranges::All => {
            table.add_rule(OUTPUT, Rule::new().l4proto(L4::Tcp).jump(REDIRECT));
        }
        Ranges::Only(nets) => {
            for net in nets {
                table.add_rule(
                    OUTPUT,
                    Rule::new().daddr(*net).l4proto(L4::Tcp).jump(REDIRECT),
                );
            }
        }
    }
}

/// The proxy and the application ask the same name servers, perhaps from the same source port. Were
/// both tracked in one zone, an answer to the one could be taken for an answer to the other.
fn raw(config: &Config) -> Table {
    const PROXY_ZONE: u16 = 1;
    const CLIENT_ZONE: u16 = 2;
    let mut table = Table::new(Family::Inet, RAW_TABLE);
    let base = |name, hook| Chain::base(name, ChainType::Filter, hook, priority::RAW);
    table.add_chain(base("prerouting", Hook::Prerouting));
    table.add_chain(base("output", Hook::Output));
    table.add_rule("output", Rule::new().l4proto(L4::Udp).jump(OUTPUT_DNS));
    table.add_rule("prerouting", Rule::new().l4proto(L4::Udp).jump(INBOUND));
    let mark = config.proxy_mark.map(Owner::Mark);
    let users = config.proxy_uids.iter().map(|uid| Owner::User(*uid));
    let groups = config.proxy_gids.iter().map(|gid| Owner::Group(*gid));
    for owner in mark.into_iter().chain(users).chain(groups) {
        let queries = owner.is(Rule::new().dport(L4::Udp, DNS_PORT));
        table.add_rule(OUTPUT_DNS, queries.set_ct_zone(PROXY_ZONE).ret());
        let answers = owner.is(Rule::new().sport(L4::Udp, config.dns_port));
        table.add_rule(OUTPUT_DNS, answers.set_ct_zone(CLIENT_ZONE).ret());
    }
    for rule in dns_targets(config) {
        table.add_rule(
            OUTPUT_DNS,
            rule.dport(L4::Udp, DNS_PORT).set_ct_zone(CLIENT_ZONE),
        );
    }
    let sources = match &config.dns {
        Dns::Servers(servers) => servers
            .iter()
            .map(|ip| Rule::new().saddr(IpNet::from(*ip)))
            .collect(),
        Dns::All | Dns::Off => vec![Rule::new()],
    };
    for rule in sources {
        table.add_rule(
            INBOUND,
            rule.sport(L4::Udp, DNS_PORT).set_ct_zone(PROXY_ZONE),
        );
    }
    table
}

fn filter() -> Table {
    let mut table = Table::new(Family::Inet, FILTER_TABLE);
    let chain = Chain::base(
        "prerouting",
        ChainType::Filter,
        Hook::Prerouting,
        priority::MANGLE,
    );
    table.add_chain(chain);
    table.add_rule(
        "prerouting",
        Rule::new().ct_state(ct_state::INVALID).jump("ISTIO_DROP"),
    );
    table.add_rule("ISTIO_DROP", Rule::new().counter().drop());
    table
}

fn host(octets: [u8; 4]) -> IpNet {
    IpAddr::V4(Ipv4Addr::from(octets)).into()
}

fn loopback_v6() -> IpNet {
    IpAddr::V6(Ipv6Addr::LOCALHOST).into()
}
