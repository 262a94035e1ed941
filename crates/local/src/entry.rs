//! Hidden subcommands: how the one binary starts its own helpers.
//!
//! They must run before any thread exists, because they change namespaces.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a hidden subcommand if `args` (without the program's name) names one.
///
/// Call this first in `main`, before any thread or runtime is started.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    match args.first()?.to_str()? {
        "platform" => Some(crate::platform::main(&args[1..])),
        "container" => Some(crate::container::shim::main()),
        "container-exec" => Some(crate::container::exec::main()),
        "pod-users" => Some(crate::container::users::main()),
        _ => None,
    }
}
