//! The command that the init container of a pod runs: `istio-iptables`.
//!
//! Its flags and variables are those of the original, so that injection templates written for it
//! work; what it writes are nf_tables rules.

mod args;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

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

/// What the command with these arguments, the first of which is its name, would capture.
///
/// # Errors
/// Arguments that it does not have, or that ask for what is not supported.
pub fn config(args: impl IntoIterator<Item = OsString>) -> Result<Config, Error> {
    let args = Args::try_parse_from(args).map_err(|error| {
        // What comes after it is on usage.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Error::Arguments(first.trim_start_matches("error: ").to_owned())
    })?;
    args.config()
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
