//! The process behind `lateen up`.
//!
//! It leaves the host's namespaces before it starts a thread; see `isolate` for the process tree.

mod forward;
pub(crate) mod isolate;
mod runtime;
mod status;

use std::ffi::OsString;
use std::net::UdpSocket;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tracing::error;

use crate::Error;
use crate::state::{ProcessId, StateDir, write_json};

/// The only argument of the platform process, as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// Name of the mesh.
    pub name: String,
    /// Its state directory, which exists.
    pub state_dir: PathBuf,
    /// Inherited listening socket of the API server.
    pub api_fd: RawFd,
    /// Inherited listening socket that leads to the ingress gateway.
    pub http_fd: RawFd,
    /// What `http_fd` is to a user, for the status.
    pub http_url: String,
    /// Addresses for LoadBalancer services, `first-last`.
    pub vip_pool: String,
}

/// What the platform takes along from the host's network namespace.
#[derive(Debug)]
pub(crate) struct HostResources {
    /// For names that the cluster does not own: sockets stay in the namespace that made them.
    pub(crate) dns: Option<UdpSocket>,
    /// Name servers out of the host's resolv.conf.
    pub(crate) resolvers: Vec<std::net::IpAddr>,
}

/// Runs the platform until it is told to stop. Must be called before any thread is started.
pub fn main(args: &[OsString]) -> ExitCode {
    // The writer takes no lock and starts no thread, so it is safe before a fork.
    let _ = tracing_subscriber_init();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            error!(%error, "the platform cannot start");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<ExitCode, Error> {
    let json = args
        .first()
        .and_then(|arg| arg.to_str())
        .unwrap_or_default();
    let options: Options =
        serde_json::from_str(json).map_err(|error| Error::Option(error.to_string()))?;
    let state = StateDir::at(&options.state_dir);
    isolate::close_on_exec()?;
    let host = HostResources::take();
    if let Some(id) = ProcessId::this() {
        write_json(&state.pid_file(), &id)?;
    }
    let result = match isolate::enter() {
        Ok(isolate::Role::Launcher(code)) => Ok(code),
        Ok(isolate::Role::Platform) => return runtime::run(options, host),
        Err(error) => {
            status::write_failed(&state, &options.name, &error);
            Err(error)
        }
    };
    let _ = std::fs::remove_file(state.pid_file());
    result
}

impl HostResources {
    fn take() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self {
            dns: UdpSocket::bind("0.0.0.0:0").ok(),
            resolvers: name_servers(&text),
        }
    }
}

fn name_servers(resolv_conf: &str) -> Vec<std::net::IpAddr> {
    let words = |line: &str| -> Option<std::net::IpAddr> {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse().ok()
    };
    // The one socket is IPv4.
    resolv_conf
        .lines()
        .filter_map(words)
        .filter(std::net::IpAddr::is_ipv4)
        .collect()
}

fn tracing_subscriber_init() -> bool {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("LATEEN_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,kube_client=off,kube_runtime=warn,hyper=warn,tower=warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init()
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let text = "# c\nsearch x\nnameserver 1.1.1.1\nnameserver ::1\n nameserver 9.9.9.9 x\n";
        let expect: Vec<std::net::IpAddr> =
            vec!["1.1.1.1".parse().unwrap(), "9.9.9.9".parse().unwrap()];
        assert_eq!(name_servers(text), expect);
    }
}
