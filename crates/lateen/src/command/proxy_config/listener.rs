//! `proxy-config listener`.

use clap::Args;
use serde_json::Value;

use super::dump::{Dump, LISTENERS};
use super::{DUMP, Target, list, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// Protocols that mean the same to people, by the application protocols of a match.
#[rustfmt::skip]
const PROTOCOLS: [(&str, &[&str]); 4] = [
    ("HTTP TLS", &["http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"]),
    ("Istio HTTP Plain", &["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]),
    ("TCP TLS", &["istio-peer-exchange", "istio"]),
    ("HTTP", &["http/1.0", "http/1.1", "h2c"]),
];

/// Where connections are ended that nothing else takes.
const BLACK_HOLE: &str = "BlackHoleCluster";

/// The listeners of a proxy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config listener deploy/productpage-v1\n  \
                  lateen proxy-config listener deploy/productpage-v1 --type HTTP --address 0.0.0.0 -o json\n  \
                  lateen proxy-config listener --file config_dump.json --port 15006")]
pub(super) struct Listener {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filter: Filter,
    /// Only listeners with this port.
    #[arg(long)]
    port: Option<u16>,
    /// What each listener matches and where it sends that; `false` shows the listeners' kinds alone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    verbose: bool,
    /// The filter chains by name, which is what a waypoint's listeners are told apart by.
    #[arg(long)]
    waypoint: bool,
}

/// Which listeners.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "listener_filter")]
pub(super) struct Filter {
    /// Only listeners with this address.
    #[arg(long)]
    pub(super) address: Option<String>,
    /// Only listeners of this kind: `HTTP`, `TCP` or `HTTP+TCP`.
    #[arg(long = "type", value_name = "KIND")]
    pub(super) kind: Option<String>,
}

impl Listener {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        let listeners = select(&dump, &self.filter, self.port);
        let table = match (self.waypoint, self.verbose) {
            (true, _) => chains_by_name(&listeners),
            (false, true) => table(&listeners),
            (false, false) => kinds(&listeners),
        };
        print(self.output, &table, LISTENERS.message, &listeners)
    }
}

/// The listeners that are wanted, by their ports.
pub(super) fn select<'a>(dump: &'a Dump, filter: &Filter, port: Option<u16>) -> Vec<&'a Value> {
    let mut listeners = dump.resources(LISTENERS);
    listeners.retain(|listener| filter.wants(listener, port));
    listeners.sort_by_cached_key(|one| (self::port(one), addresses(one), kind(one)));
    listeners
}

impl Filter {
    fn wants(&self, listener: &Value, port: Option<u16>) -> bool {
        let address = self.address.as_deref();
        let all = each_address(listener);
        address.is_none_or(|wanted| all.into_iter().any(|own| own.eq_ignore_ascii_case(wanted)))
            && port.is_none_or(|wanted| u64::from(wanted) == self::port(listener))
            && (self.kind.as_deref())
                .is_none_or(|wanted| kind(listener).eq_ignore_ascii_case(wanted))
    }
}

const PADDING: usize = 1;

pub(super) fn table(listeners: &[&Value]) -> Table {
    let mut table = Table::new(["ADDRESSES", "PORT", "MATCH", "DESTINATION"]).padded(PADDING);
    for listener in listeners {
        for (matches, destination) in branches(listener) {
            table.row([
                addresses(listener),
                port(listener).to_string(),
                matches,
                destination,
            ]);
        }
    }
    table
}

/// With the listeners' names, as part of everything.
pub(super) fn table_with_names(listeners: &[&Value]) -> Table {
    let header = ["NAME", "ADDRESSES", "PORT", "MATCH", "DESTINATION"];
    let mut table = Table::new(header).padded(PADDING);
    for listener in listeners {
        for (matches, destination) in branches(listener) {
            table.row([
                text(listener, "name").to_owned(),
                addresses(listener),
                port(listener).to_string(),
                matches,
                destination,
            ]);
        }
    }
    table
}

fn kinds(listeners: &[&Value]) -> Table {
    let mut table = Table::new(["ADDRESSES", "PORT", "TYPE"]).padded(PADDING);
    for listener in listeners {
        let kind = kind(listener).to_owned();
        table.row([addresses(listener), port(listener).to_string(), kind]);
    }
    table
}

pub(super) fn chains_by_name(listeners: &[&Value]) -> Table {
    let mut table = Table::new(["LISTENER", "CHAIN", "MATCH", "DESTINATION"]).padded(PADDING);
    for listener in listeners {
        for chain in chains(listener) {
            table.row([
                text(listener, "name").to_owned(),
                text(chain, "name").to_owned(),
                matches(&chain["filter_chain_match"]),
                destination(chain),
            ]);
        }
    }
    table
}

/// What the listener matches, and where it sends that; by the latter, backwards.
fn branches(listener: &Value) -> Vec<(String, String)> {
    let of = |chain: &Value| (matches(&chain["filter_chain_match"]), destination(chain));
    let mut all: Vec<_> = chains(listener).map(of).collect();
    all.sort_by(|one, other| other.1.cmp(&one.1));
    // Datagrams are taken by a filter of the listener itself.
    if all.is_empty() {
        let udp = list(listener, "listener_filters").find_map(datagrams);
        all.extend(udp.map(|to| ("ALL".to_owned(), to)));
    }
    all
}

fn chains(listener: &Value) -> impl Iterator<Item = &Value> {
    let last = &listener["default_filter_chain"];
    let last = Some(last).filter(|chain| !chain.is_null());
    list(listener, "filter_chains").chain(last)
}

fn each_address(listener: &Value) -> Vec<&str> {
    let more = list(listener, "additional_addresses").map(|more| &more["address"]);
    let all = std::iter::once(&listener["address"]).chain(more);
    all.map(address)
        .filter(|address| !address.is_empty())
        .collect()
}

fn address(of: &Value) -> &str {
    match text(&of["socket_address"], "address") {
        "" => text(&of["pipe"], "path"),
        address => address,
    }
}

fn addresses(listener: &Value) -> String {
    each_address(listener).join(",")
}

fn port(listener: &Value) -> u64 {
    let port = &listener["address"]["socket_address"]["port_value"];
    port.as_u64().unwrap_or_default()
}

/// By what takes connections there.
fn kind(listener: &Value) -> &'static str {
    let filters = || chains(listener).flat_map(|chain| list(chain, "filters"));
    let http = filters().any(|filter| is(filter, HTTP));
    let tcp = filters().any(|filter| {
        is(filter, TCP) && !text(&filter["typed_config"], "cluster").contains(BLACK_HOLE)
    });
    match (http, tcp) {
        (true, true) => "HTTP+TCP",
        (true, false) => "HTTP",
        (false, true) => "TCP",
        (false, false) if list(listener, "listener_filters").any(|of| datagrams(of).is_some()) => {
            "UDP"
        }
        (false, false) => "UNKNOWN",
    }
}

const HTTP: &str = ".HttpConnectionManager";
const TCP: &str = ".TcpProxy";
const UDP: &str = ".UdpProxyConfig";

fn is(filter: &Value, kind: &str) -> bool {
    text(&filter["typed_config"], "@type").ends_with(kind)
}

fn datagrams(filter: &Value) -> Option<String> {
    if !is(filter, UDP) {
        return None;
    }
    let config = &filter["typed_config"];
    Some(match text(config, "cluster") {
        "" => "UDP".to_owned(),
        name => cluster(name),
    })
}

fn matches(rule: &Value) -> String {
    let texts =
        |field: &str| -> Vec<&str> { list(rule, field).filter_map(Value::as_str).collect() };
    let mut parts = Vec::new();
    let names = texts("server_names").join(",");
    if !names.is_empty() {
        parts.push(format!("SNI: {names}"));
    }
    if let Some(transport) = rule["transport_protocol"].as_str() {
        parts.push(format!("Trans: {transport}"));
    }
    let protocols = texts("application_protocols");
    if !protocols.is_empty() {
        let known = PROTOCOLS.iter().find(|(_, all)| *all == protocols);
        let shown = known.map_or_else(|| protocols.join(","), |(name, _)| (*name).to_owned());
        parts.push(format!("App: {shown}"));
    }
    let port = number(&rule["destination_port"]);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let ranges = list(rule, "prefix_ranges").map(|range| {
        let length = number(&range["prefix_len"]).unwrap_or_default();
        format!("{}/{length}", text(range, "address_prefix"))
    });
    let ranges = ranges.collect::<Vec<_>>().join(",");
    match (ranges.as_str(), port.as_str()) {
        ("", "") => {}
        ("", port) => parts.push(format!("Addr: *{port}")),
        (ranges, port) => parts.push(format!("Addr: {ranges}{port}")),
    }
    match parts.is_empty() {
        true => "ALL".to_owned(),
        false => parts.join("; "),
    }
}

/// A number, or one that may be absent, which some writers wrap.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value["value"].as_u64())
}

fn destination(chain: &Value) -> String {
    for filter in list(chain, "filters") {
        let config = &filter["typed_config"];
        if is(filter, HTTP) {
            return match text(&config["rds"], "route_config_name") {
                "" if config["route_config"].is_object() => inline(&config["route_config"]),
                "" => "HTTP".to_owned(),
                name => format!("Route: {name}"),
            };
        }
        let to = text(config, "cluster");
        if is(filter, TCP) && !to.contains(BLACK_HOLE) {
            if to.is_empty() {
                let shares = list(&config["weighted_clusters"], "clusters");
                let shares = shares.map(|share| {
                    let weight = number(&share["weight"]).unwrap_or_default();
                    format!("{} ({weight})", text(share, "name"))
                });
                return format!("Clusters: {}", shares.collect::<Vec<_>>().join(", "));
            }
            return cluster(to);
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

/// Those that are of no service have a name that says what they are.
fn cluster(name: &str) -> String {
    match name.contains("Cluster") {
        true => name.to_owned(),
        false => format!("Cluster: {name}"),
    }
}

/// A table that is in its listener: where all goes to one cluster, that.
fn inline(table: &Value) -> String {
    let hosts: Vec<&Value> = list(table, "virtual_hosts").collect();
    if let [host] = hosts[..]
        && let [route] = list(host, "routes").as_slice()
        && domains(host) == "*"
        && text(&route["match"], "prefix") == "/"
        && let Some(name) = route["route"]["cluster"].as_str()
    {
        return cluster(name);
    }
    let shown = hosts.iter().map(|host| {
        let paths = list(host, "routes").map(|route| super::route::path(&route["match"]));
        let paths = paths.collect::<Vec<_>>().join(", ");
        match domains(host).as_str() {
            "*" => paths,
            domains => format!("{domains} {paths}"),
        }
    });
    format!("Inline Route: {}", shown.collect::<Vec<_>>().join("; "))
}

fn domains(host: &Value) -> String {
    let all = list(host, "domains").filter_map(Value::as_str);
    all.collect::<Vec<_>>().join("/")
}
