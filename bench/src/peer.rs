//! The proxies that are compared: where they are, how they are configured, what they count.

mod envoy;
mod haproxy;
mod lateen;
mod nginx;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::plane::Plane;
use crate::ports::Ports;
use crate::process::Running;

/// One of the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    Lateen,
    Envoy,
    Nginx,
    Haproxy,
}

impl Name {
    pub(crate) const ALL: [Name; 4] = [Name::Lateen, Name::Envoy, Name::Nginx, Name::Haproxy];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Name::Lateen => "lateen",
            Name::Envoy => "envoy",
            Name::Nginx => "nginx",
            Name::Haproxy => "haproxy",
        }
    }

    /// The variable that names its binary, and how to get one.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Name::Lateen => ("LATEEN_PROXY", "cargo build --release -p lateen-proxy-bin"),
            Name::Envoy => ("ENVOY", "cargo xtask bench --install"),
            Name::Nginx => ("NGINX", "cargo xtask bench --install (Debian: nginx)"),
            Name::Haproxy => ("HAPROXY", "cargo xtask bench --install (Debian: haproxy)"),
        }
    }
}

/// A proxy that is on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: Name,
    pub(crate) binary: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
}

/// Looks for a proxy: by its variable, else on the path.
///
/// # Errors
/// When there is none, with what would help.
pub(crate) fn find(name: Name) -> Result<Found> {
    let (variable, help) = name.source();
    let binary = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => on_path(name.as_str())
            .with_context(|| format!("{} is missing. To install: {help}", name.as_str()))?,
    };
    let binary = binary
        .canonicalize()
        .with_context(|| format!("{variable}: {}", binary.display()))?;
    let flag = match name {
        Name::Lateen => "version",
        Name::Envoy => "--version",
        Name::Nginx | Name::Haproxy => "-v",
    };
    let output = Command::new(&binary).arg(flag).output();
    let output = output.with_context(|| format!("{variable}: {}", binary.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find(|line| !line.trim().is_empty());
    Ok(Found {
        name,
        binary,
        version: short_version(name, version.unwrap_or("")),
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(usual);
    places
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

/// The number in a version's first line.
fn short_version(name: Name, line: &str) -> String {
    let words = line
        .split([' ', '/'])
        .map(|word| word.trim_start_matches('v'));
    let mut numbers =
        words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    let number = numbers.next().unwrap_or("of unknown version");
    format!("{} {number}", name.as_str())
}

/// Which side of the mesh an instance is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// In front of the backend.
    Inbound,
    /// Beside the client, in front of the inbound side at these ports.
    Outbound(Ports),
    /// HTTP/1.1 alone, everything to the recorder of these ports.
    Plain,
}

/// What starting a proxy needs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scratch: PathBuf,
    pub(crate) plane: Arc<Plane>,
    /// Certificates of the two sides.
    pub(crate) client: PathBuf,
    pub(crate) server: PathBuf,
    /// Roots of the control plane's certificate.
    pub(crate) roots: String,
}

impl Stage {
    fn identity(&self, side: Side) -> &PathBuf {
        match side {
            Side::Inbound | Side::Plain => &self.server,
            Side::Outbound(_) => &self.client,
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: Name,
    pub(crate) ports: Ports,
    running: Running,
}

impl Instance {
    /// Starts a proxy and waits until it takes connections.
    pub(crate) fn start(found: &Found, stage: &Stage, side: Side, ports: Ports) -> Result<Self> {
        let label = format!("{}-{}", found.name.as_str(), ports.h1());
        let directory = stage.scratch.join(&label);
        std::fs::create_dir_all(&directory)?;
        let command = match found.name {
            Name::Lateen => lateen::command(found, stage, side, ports, &directory)?,
            Name::Envoy => envoy::command(found, stage, side, ports, &directory)?,
            Name::Nginx => nginx::command(found, stage, side, ports, &directory)?,
            Name::Haproxy => haproxy::command(found, stage, side, ports, &directory)?,
        };
        let mut running = Running::start(&label, command, &stage.scratch)?;
        let listens = match (side, found.name) {
            (Side::Outbound(_), _) => vec![ports.outbound()],
            (Side::Plain, _) => vec![ports.h1()],
            // Without the module for streams.
            (Side::Inbound, Name::Nginx) => vec![ports.h1(), ports.h2(), ports.tls()],
            (Side::Inbound, _) => vec![ports.h1(), ports.h2(), ports.tls(), ports.tcp()],
        };
        running.wait_for(&listens, &stage.scratch)?;
        Ok(Instance {
            name: found.name,
            ports,
            running,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// How many requests it has counted as answered, where it counts them.
    pub(crate) fn answered(&self) -> Result<Option<u64>> {
        match self.name {
            Name::Lateen => lateen::answered(self.ports).map(Some),
            Name::Envoy => envoy::answered(self.ports).map(Some),
            Name::Nginx | Name::Haproxy => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let check = |name, line: &str, expect: &str| assert_eq!(short_version(name, line), expect);
        check(Name::Lateen, "0.1.0", "lateen 0.1.0");
        check(Name::Nginx, "nginx version: nginx/1.22.1", "nginx 1.22.1");
        check(
            Name::Haproxy,
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
            "haproxy 2.6.12-1+deb12u4",
        );
        check(
            Name::Envoy,
            "/x/envoy  version: 9f/1.40.0/Clean/RELEASE/BoringSSL",
            "envoy 1.40.0",
        );
        check(Name::Envoy, "?", "envoy of unknown version");
    }
}
