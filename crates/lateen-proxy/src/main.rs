//! The image of sidecars and gateways: `pilot-agent` under its own name.

use std::process::ExitCode;

fn main() -> ExitCode {
    lateen_agent::main(std::env::args_os())
}
