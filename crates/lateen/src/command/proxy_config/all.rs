//! `proxy-config all`: every table of a proxy, one after the other.

use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::dump::{Dump, ENDPOINTS, EXTENSIONS};
use super::{
    DUMP_WITH_ENDPOINTS, Target, bootstrap, cluster, ecds, eds, endpoint, listener, route, secret,
};
use crate::{
    cli::Global,
    output::{self, Format},
    table::Table,
};

/// All that a proxy has. JSON and YAML are the whole config dump, whatever is asked for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config all deploy/productpage-v1\n  \
                  lateen proxy-config all deploy/productpage-v1 -o json > config_dump.json\n  \
                  lateen proxy-config all --file config_dump.json --fqdn reviews")]
pub(super) struct All {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    clusters: cluster::Filter,
    #[command(flatten)]
    listeners: listener::Filter,
    #[command(flatten)]
    routes: route::Filter,
    /// Only clusters, listeners and endpoints of this port.
    #[arg(long)]
    port: Option<u16>,
    /// The names of clusters and listeners, and each route.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    verbose: bool,
}

impl All {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP_WITH_ENDPOINTS).await?;
        match self.output {
            Format::Short => output::print(self.tables(&dump, SystemTime::now())),
            format => output::structured(dump.value(), format)?,
        }
        Ok(())
    }

    /// Each section that the dump has, under its title.
    fn tables(&self, dump: &Dump, now: SystemTime) -> String {
        let mut text = String::new();
        let mut add = |title: &str, kind: &str, mut table: Table| {
            let before = if text.is_empty() { "" } else { "\n" };
            table.mark(kind);
            text += &format!("{before}------ {title} info ------\n\n{table}");
        };
        if let Ok(bootstrap) = bootstrap::of(dump) {
            add("bootstrap", "", bootstrap::versions(bootstrap));
        }
        let clusters = cluster::select(dump, &self.clusters, self.port);
        add(
            "cluster",
            "cluster/",
            cluster::table(&clusters, self.verbose),
        );
        let listeners = listener::select(dump, &self.listeners, self.port);
        let listeners = match self.verbose {
            true => listener::table_with_names(&listeners),
            false => listener::table(&listeners),
        };
        add("listener", "listener/", listeners);
        let routes = route::select(dump, &self.routes);
        let routes = match self.verbose {
            true => route::table(&routes),
            false => route::counted(&routes),
        };
        add("route", "route/", routes);
        add("secret", "secret/", secret::table(dump, now));
        let extensions = dump.resources(EXTENSIONS);
        if !extensions.is_empty() {
            add("ecds", "ecds/", ecds::table(&extensions));
        }
        if dump.has(ENDPOINTS) {
            let endpoints = eds::select(dump, &self.endpoints());
            let endpoints: Vec<&Value> = endpoints.iter().collect();
            add("endpoints", "endpoint/", eds::table(&endpoints));
        }
        text
    }

    fn endpoints(&self) -> endpoint::Filter {
        endpoint::Filter {
            address: self.listeners.address.clone(),
            port: self.port.map(u64::from),
            ..endpoint::Filter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dump_lacks_is_left_out() {
        let all = All {
            target: Target {
                pod: None,
                file: None,
                admin_port: 0,
            },
            output: Format::Short,
            clusters: cluster::Filter::default(),
            listeners: listener::Filter::default(),
            routes: route::Filter::default(),
            port: None,
            verbose: true,
        };
        let dump = super::super::tests::dump();
        let text = all.tables(&dump, SystemTime::UNIX_EPOCH);
        let titles = text.lines().filter(|line| line.starts_with("------"));
        let titles: Vec<_> = titles.filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(
            titles,
            [
                "bootstrap",
                "cluster",
                "listener",
                "route",
                "secret",
                "ecds",
                "endpoints"
            ]
        );
        assert!(text.contains("\ncluster/outbound|9080||ratings"), "{text}");
        assert!(text.contains("\nlistener/virtualInbound"), "{text}");
        let text = all.tables(
            &Dump::read(r#"{"configs": []}"#).unwrap(),
            SystemTime::now(),
        );
        assert!(
            !text.contains("bootstrap") && !text.contains("endpoints"),
            "{text}"
        );
    }
}
