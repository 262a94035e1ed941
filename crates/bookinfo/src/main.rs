//! The sample's four services as a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    lateen_bookinfo::main(std::env::args_os())
}
