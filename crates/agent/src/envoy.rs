//! Real Envoy as a child process.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::Error;
use crate::config::AgentConfig;

/// After SIGTERM Envoy ends at once; one that does not is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running Envoy. It is killed when this is dropped, and when the agent dies.
#[derive(Debug)]
pub(crate) struct Envoy {
    child: Child,
}

impl Envoy {
    pub(crate) fn start(
        config: &AgentConfig,
        binary: &Path,
        bootstrap: &Path,
    ) -> Result<Self, Error> {
        let child = command(config, binary, bootstrap)
            .spawn()
            .map_err(|e| Error::Proxy(format!("cannot run {}: {e}", binary.display())))?;
        tracing::info!(binary = %binary.display(), pid = child.id(), "Envoy started");
        Ok(Self { child })
    }

    /// Resolves when Envoy ends.
    pub(crate) async fn ended(&mut self) -> Error {
        Error::Proxy(match self.child.wait().await {
            Ok(status) => format!("Envoy ended: {}", describe(status)),
            Err(error) => format!("Envoy is lost: {error}"),
        })
    }

    /// Asks Envoy to end, and insists after a while.
    pub(crate) async fn stop(mut self) {
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // It may have ended by itself in the meantime.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        if tokio::time::timeout(STOP_LIMIT, self.child.wait())
            .await
            .is_err()
        {
            tracing::warn!("Envoy does not end, killing it");
            let _ = self.child.kill().await;
        }
    }
}

fn command(config: &AgentConfig, binary: &Path, bootstrap: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("-c")
        .arg(bootstrap)
        .args(["--drain-time-s", "45", "--drain-strategy", "immediate"])
        .args([
            "--local-address-ip-version",
            "v4",
            "--file-flush-interval-msec",
            "1000",
        ])
        .args(["--disable-hot-restart", "--allow-unknown-static-fields"])
        .args(["-l", &config.proxy_log_level])
        .args(["--component-log-level", &config.proxy_component_log_level])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(threads) = config.concurrency.filter(|n| *n > 0) {
        command.args(["--concurrency", &threads.to_string()]);
    }
    die_with_parent(&mut command);
    command
}

/// An agent that is killed must not leave an Envoy behind which holds the ports. The kernel sends
/// the signal when the *thread* that forked ends: [`Envoy::start`] belongs on the main thread.
#[allow(
    unsafe_code,
    reason = "code between fork and exec has no safe interface"
)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call, which is async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for an unknown reason".to_owned(),
    }
}
