//! Starts the real platform in its own namespaces and looks at it from the outside.
//!
//! The platform re-executes its own program, so this test is its own harness: its `main` answers the hidden
//! subcommands first.

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = lateen_local::entry(&args) {
        return code;
    }
    let dir = std::path::PathBuf::from("/tmp/lateen-try");
    let state = lateen_local::state::StateDir::at(&dir);
    state.create().unwrap();
    let api = TcpListener::bind("127.0.0.1:7001").unwrap();
    let http = TcpListener::bind("127.0.0.1:7002").unwrap();
    let launch = lateen_local::launch::Launch {
        name: "try".into(),
        state: state.clone(),
        api,
        http,
        vip_pool: "10.10.99.148-10.10.99.155".into(),
    };
    let mut child = launch.spawn().unwrap();
    println!("{:?}", child.wait());
    ExitCode::SUCCESS
}
