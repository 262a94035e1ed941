//! The command that the init container of a pod runs: `istio-iptables`.
//!
//! Its flags and variables are those of the original, so that injection templates written for it
//! work; what it writes are nf_tables rules.

mod args;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::{Config, Error, apply, cleanup, plan, validate};
use args::Args;

/// The exit code by which the validating container tells its pod that the rules are missing.
const VALIDATION_FAILED: u8 = 126;

/// Runs the command with the given arguments, the first of which is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and usage errors; where they cannot be written there is nobody to read them.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "istio-iptables: {error}");
            let validation = matches!(error, Error::NotCaptured { .. } | Error::Check { .. });
            if validation {
                ExitCode::from(VALIDATION_FAILED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// What the command with these arguments, the first of which is its name, would capture, with variables as
/// they are in its container. This process has others, which say nothing of it.
///
/// # Errors
/// Arguments or variables that it does not have, or that ask for what is not supported.
pub fn config(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Error> {
    let own = Args::command();
    let alone = || own.clone().mut_args(|arg| arg.env(Resettable::Reset));
    let mut args: Vec<OsString> = args.into_iter().collect();
    let said = alone().try_get_matches_from(&args).map_err(unread)?;
    for arg in own.get_arguments() {
        let name = arg.get_env().and_then(|name| name.to_str());
        let value = name.and_then(&variable).filter(|value| !value.is_empty());
        let (Some(long), Some(value)) = (arg.get_long(), value) else {
            continue;
        };
        if said.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        match arg.get_action() {
            ArgAction::SetTrue if is_off(&value) => {}
            ArgAction::SetTrue => args.push(format!("--{long}").into()),
            _ => args.push(format!("--{long}={value}").into()),
        }
    }
    let all = alone().try_get_matches_from(args).map_err(unread)?;
    Args::from_arg_matches(&all).map_err(unread)?.config()
}

/// What `clap` takes for no in variables of flags.
fn is_off(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["n", "no", "f", "false", "off", "0"].contains(&value.as_str())
}

fn unread(error: clap::Error) -> Error {
    // What comes after it is on usage.
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    Error::Arguments(first.trim_start_matches("error: ").to_owned())
}

fn run(args: &Args) -> Result<(), Error> {
    if args.cleanup_only {
        return cleanup();
    }
    let config = args.config()?;
    if args.dry_run {
        let mut out = std::io::stdout().lock();
        for table in plan(&config) {
            let _ = writeln!(out, "{table}");
        }
        return Ok(());
    }
    if !args.skip_rule_apply {
        apply(&config)?;
        tracing::info!(
            outbound = config.proxy_port,
            inbound = config.inbound_port,
            "traffic capture is set up"
        );
    }
    if args.run_validation {
        validate(&config, args.iptables_probe_port, args.probe_timeout.0)?;
        tracing::info!("traffic capture works");
    }
    Ok(())
}
