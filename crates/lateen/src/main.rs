//! `lateen`: the command line, and every role of the mesh in one binary.
//!
//! A container of the mesh runs the same file under a role's name
//! (`pilot-discovery`, `pilot-agent`, `bookinfo`, …), so one build starts
//! everything. Roles are told apart before the command line is parsed,
//! because some of them must run before any thread exists.

use std::{ffi::OsString, path::Path, process::ExitCode};

mod apply;
mod cli;
mod client;
mod cni;
mod command;
mod discovery;
mod failures;
mod output;
mod progress;
mod table;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match role(&args) {
        Some(code) => code,
        None => cli::main(args),
    }
}

/// Runs the role that the program's name or its first argument asks for.
fn role(args: &[OsString]) -> Option<ExitCode> {
    let program = args.first().map(Path::new).and_then(Path::file_name);
    let by_name = program
        .and_then(|name| name.to_str())
        .and_then(|name| run(name, args));
    by_name.or_else(|| {
        let rest = args.get(1..)?;
        run(rest.first()?.to_str()?, rest).or_else(|| lateen_local::entry(rest))
    })
}

/// `args[0]` is the role's name, as a program's arguments begin with the program.
fn run(role: &str, args: &[OsString]) -> Option<ExitCode> {
    let code = match role {
        "pilot-discovery" => discovery::main(args),
        "pilot-agent" => lateen_agent::main(args.iter().cloned()),
        "agent" => lateen_agent::proxy(args.iter().skip(1).cloned()),
        "bookinfo" => lateen_bookinfo::main(args.iter().cloned()),
        "istio-cni" => cni::plugin(),
        "install-cni" => cni::agent(args),
        // As the echo sample's image calls it.
        "client" => {
            let words = ["sample", "client"].map(OsString::from);
            let rest = args.iter().skip(1).cloned();
            lateen_samples::main(words.into_iter().chain(rest))
        }
        "sample" => lateen_samples::main(args.iter().cloned()),
        _ => return None,
    };
    Some(code)
}
