//! `proxy-config route`.

use clap::Args;
use serde_json::Value;

use super::dump::{Dump, ROUTES};
use super::{DUMP, Target, list, origin, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// Domains of a host that are shown; the others are counted.
const MAX_DOMAINS: usize = 2;
/// Where requests go that no rule of the mesh is for.
const PASSTHROUGH: &str = "PassthroughCluster";

/// The routes of a proxy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config route deploy/productpage-v1\n  \
                  lateen proxy-config route deploy/productpage-v1 --name 9080 -o json\n  \
                  lateen proxy-config route --file config_dump.json --verbose=false")]
pub(super) struct Route {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filter: Filter,
    /// Each route; `false` counts the virtual hosts alone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    verbose: bool,
}

/// Which route tables.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "route_filter")]
pub(super) struct Filter {
    /// Only the route configuration of this name.
    #[arg(long)]
    pub(super) name: Option<String>,
}

impl Route {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        let routes = select(&dump, &self.filter);
        let table = match self.verbose {
            true => table(&routes),
            false => counted(&routes),
        };
        print(self.output, &table, ROUTES.message, &routes)
    }
}

/// The route tables that are wanted, those that are named by a port in the order of these.
pub(super) fn select<'a>(dump: &'a Dump, filter: &Filter) -> Vec<&'a Value> {
    let mut routes = dump.resources(ROUTES);
    let wanted = filter.name.as_deref();
    routes.retain(|route| wanted.is_none_or(|name| name == text(route, "name")));
    routes.sort_by_key(|route| {
        let name = text(route, "name");
        let port = name.parse::<u16>().ok();
        (port.is_none(), port, name)
    });
    routes
}

pub(super) fn table(routes: &[&Value]) -> Table {
    let mut table = Table::new(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]);
    for config in routes {
        for host in list(config, "virtual_hosts") {
            let row = |matches: String, rule: String| {
                [
                    text(config, "name").to_owned(),
                    text(host, "name").to_owned(),
                    domains(host),
                    matches,
                    rule,
                ]
            };
            let mut routes = list(host, "routes").peekable();
            if routes.peek().is_none() {
                table.row(row("/*".to_owned(), "404".to_owned()));
            }
            for route in routes {
                if text(&route["route"], "cluster") != PASSTHROUGH {
                    table.row(row(matches(&route["match"]), origin(route)));
                }
            }
        }
    }
    table
}

pub(super) fn counted(routes: &[&Value]) -> Table {
    let mut table = Table::new(["NAME", "VIRTUAL HOSTS"]);
    for config in routes {
        let hosts = list(config, "virtual_hosts").len().to_string();
        table.row([text(config, "name").to_owned(), hosts]);
    }
    table
}

/// The domains that are not just another spelling of a shorter one.
fn domains(host: &Value) -> String {
    let all: Vec<&str> = list(host, "domains").filter_map(Value::as_str).collect();
    if let [one] = all[..] {
        return one.to_owned();
    }
    let is_port = |domain: &str| match domain.rsplit_once(':') {
        Some((_, port)) => !domain.ends_with(']') && port.parse::<u16>().is_ok(),
        None => false,
    };
    // With a dot at the end is how a name is written for which no search list is tried.
    let longer = |domain: &str| {
        [".svc.cluster.local", ".svc", "."].iter().any(|end| {
            let short = domain.strip_suffix(end);
            short.is_some_and(|short| all.contains(&short))
        })
    };
    let own = all
        .iter()
        .filter(|domain| !is_port(domain) && !longer(domain));
    let own: Vec<&str> = own.copied().collect();
    match own.get(MAX_DOMAINS..) {
        Some(more) if !more.is_empty() => {
            let shown = own[..MAX_DOMAINS].join(", ");
            format!("{shown} + {} more...", more.len())
        }
        _ => own.join(", "),
    }
}

/// What a route matches by the path.
pub(super) fn path(rule: &Value) -> String {
    let of = [
        ("prefix", "*"),
        ("path_separated_prefix", "*"),
        ("path", ""),
    ];
    let mut of = of.iter();
    of.find_map(|(field, tail)| rule[field].as_str().map(|path| format!("{path}{tail}")))
        .or_else(|| {
            let regex = rule["safe_regex"]["regex"].as_str();
            regex.map(|regex| format!("regex {regex}"))
        })
        .unwrap_or_else(|| "*".to_owned())
}

fn matches(rule: &Value) -> String {
    let path = path(rule);
    match list(rule, "headers").len() {
        0 => path,
        1 => format!("{path} + 1 header"),
        n => format!("{path} + {n} headers"),
    }
}
