//! `lateen x config list` and `lateen options`: what commands go by where no flag says it, and the flags
//! that all of them have.

use clap::{Args, Command, Subcommand};

use crate::{cli::Global, client, output, table::Table};

/// Show what commands go by.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen experimental config list")]
pub(crate) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List each setting with its value and where it comes from
    #[command(after_help = "Example:\n  lateen experimental config list -n shop")]
    List,
}

impl Config {
    pub(crate) fn run(&self, global: &Global) {
        let What::List = self.what;
        output::print(table(global));
    }
}

fn table(global: &Global) -> Table {
    let mut table = Table::new(["FLAG", "VALUE", "FROM"]);
    let mut row = |flag: &str, value: String, from: &str| {
        table.row([flag.to_owned(), value, from.to_owned()]);
    };
    let flag_or = |given: bool| if given { "command line" } else { "default" };
    row(
        "context",
        global.context.clone().unwrap_or_default(),
        flag_or(global.context.is_some()),
    );
    row(
        "istioNamespace",
        global.istio_namespace.clone(),
        flag_or(global.named_istio_namespace.is_some()),
    );
    let (kubeconfig, from) = client::kubeconfig_in_use(global);
    row("kubeconfig", kubeconfig, from);
    row(
        "namespace",
        global.namespace.clone(),
        match (&global.named_namespace, &*global.namespace) {
            (Some(_), _) => "command line",
            (None, "default") => "default",
            (None, _) => "context",
        },
    );
    table
}

/// Show the flags that every command has.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen options")]
pub(crate) struct Options {}

impl Options {
    /// From the definition of the command line, so that none is forgotten.
    pub(crate) fn run(&self, cli: &Command) {
        output::line("The following options can be passed to any command:\n");
        for argument in cli.get_arguments().filter(|of| of.is_global_set()) {
            let long = argument.get_long().unwrap_or_default();
            let short = match argument.get_short() {
                Some(short) => format!("-{short}, "),
                None => "    ".to_owned(),
            };
            let defaults = argument.get_default_values().iter();
            let default: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
            let help = argument.get_help().map(ToString::to_string);
            let default = match default.is_empty() {
                true => String::new(),
                false => format!(" [default: {}]", default.join(",")),
            };
            output::line(format_args!(
                "  {short}--{long}: {}{default}",
                help.unwrap_or_default()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn values_say_where_they_are_from() {
        let flags = ["lateen", "options", "-n", "shop", "-c", "/k.yaml"];
        let global = Cli::try_parse_from(flags).expect("flags").global.settled();
        let told = table(&global).to_string();
        let has = |line: &[&str]| {
            let mut lines = told.lines();
            lines.any(|one| one.split_whitespace().collect::<Vec<_>>() == line)
        };
        assert!(has(&["namespace", "shop", "command", "line"]), "{told}");
        assert!(has(&["kubeconfig", "/k.yaml", "command", "line"]), "{told}");
        assert!(
            has(&["istioNamespace", "istio-system", "default"]),
            "{told}"
        );
    }
}
