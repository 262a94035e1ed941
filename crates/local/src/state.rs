//! Where a mesh keeps its files, and how its processes are found and stopped.
//!
//! Every process of a mesh lives in one pid namespace whose init dies with the launcher, so it is enough
//! to know the launcher. Its pid is kept with its start time: a pid alone may by now be somebody else's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Name of the mesh when the user gives none.
pub const DEFAULT_NAME: &str = "lateen";

/// How long a stop waits for pods to end before it kills: the platform itself caps graces below this.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The files of one mesh.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// What `status.json` says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Name of the mesh.
    pub name: String,
    /// `starting`, `running`, `stopping` or `stopped`.
    pub state: String,
    /// Path of the kubeconfig.
    pub kubeconfig: String,
    /// Base URL of the forwarded HTTP port.
    pub http: String,
    /// Addresses for LoadBalancer services, `first-last`.
    #[serde(default, rename = "vipPool")]
    pub vip_pool: String,
    /// Processes of the mesh.
    pub components: Vec<Component>,
}

/// One process in [`Status`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Component {
    /// `platform`, or `namespace/pod/container`.
    pub name: String,
    /// Process id as the host sees it; 0 when there is no process.
    pub pid: i32,
    /// `running`, `ready`, or why not.
    pub state: String,
}

/// The process that a pid file names.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessId {
    /// Process id on the host.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    pub start: u64,
}

/// The directory that holds every mesh of this user.
pub fn base_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir).join("lateen");
    }
    if geteuid().is_root() {
        return PathBuf::from("/var/lib/lateen");
    }
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
    PathBuf::from(home).join(".local/state/lateen")
}

/// Names of the meshes that have files here.
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(base_dir()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

impl StateDir {
    /// The files of the mesh `name`; nothing is created.
    ///
    /// # Errors
    /// When the name is not a DNS label, since it becomes a path.
    pub fn of(name: &str) -> Result<Self, Error> {
        let ok = !name.is_empty()
            && name.len() <= 63
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-');
        if !ok {
            return Err(Error::Option(format!(
                "mesh name {name:?} must be lower-case letters, digits and dashes"
            )));
        }
        Ok(Self::at(base_dir().join(name)))
    }

    /// The state directory at an explicit path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Creates the directory, readable by its owner only since keys are kept in it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(&self) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(Error::io(format!("create {}", self.path.display())))
    }

    /// Creates the directory as [`StateDir::create`] does, and keeps everybody else from starting a mesh in it.
    ///
    /// # Errors
    /// When the file system refuses; [`Error::Taken`] when somebody else is at it.
    pub fn claim(&self) -> Result<Claim, Error> {
        loop {
            self.create()?;
            let path = self.path.join("starting");
            let failed = || Error::io(format!("open {}", path.display()));
            let mut options = fs::OpenOptions::new();
            let file = match options.create(true).append(true).open(&path) {
                // Somebody removed the directory meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(failed())?,
            };
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Err(Error::Taken),
                Err((_, errno)) => return Err(Error::sys("lock the mesh's directory")(errno)),
            };
            // It may be the lock of a mesh that is gone, of which the next one knows nothing.
            let held = lock.metadata().map_err(failed())?.ino();
            if fs::metadata(&path).is_ok_and(|meta| meta.ino() == held) {
                return Ok(Claim { _lock: lock });
            }
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mesh's name, by which its directory is called.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(std::ffi::OsStr::to_str);
        name.unwrap_or(DEFAULT_NAME)
    }

    /// `status.json`.
    pub fn status_file(&self) -> PathBuf {
        self.path.join("status.json")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The pid file of the launcher.
    pub fn pid_file(&self) -> PathBuf {
        self.path.join("launcher.pid")
    }

    /// The image map.
    pub fn images_file(&self) -> PathBuf {
        self.path.join("images.json")
    }

    /// The platform's own log.
    pub fn log_file(&self) -> PathBuf {
        self.path.join("platform.log")
    }

    /// Logs of containers.
    pub fn logs_dir(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Where the platform mounts its private tmpfs (volumes, container roots).
    pub fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Files of the API server.
    pub fn api_dir(&self) -> PathBuf {
        self.path.join("api")
    }

    /// Reads `status.json`; `None` when there is none.
    ///
    /// # Errors
    /// When the file exists and cannot be read or understood.
    pub fn status(&self) -> Result<Option<Status>, Error> {
        read_json(&self.status_file())
    }

    /// The launcher, when it is alive.
    pub fn running(&self) -> Option<ProcessId> {
        let id: ProcessId = read_json(&self.pid_file()).ok()??;
        id.is_alive().then_some(id)
    }

    /// Stops the mesh if it runs: asks first, then kills. All its processes are gone when this returns.
    ///
    /// # Errors
    /// When the process may not be signalled or does not die.
    pub fn stop(&self) -> Result<bool, Error> {
        let Some(id) = self.running() else {
            return Ok(false);
        };
        id.signal(Signal::SIGTERM)?;
        if !id.wait_gone(STOP_TIMEOUT) {
            id.signal(Signal::SIGKILL)?;
            if !id.wait_gone(Duration::from_secs(5)) {
                return Err(Error::Container(format!("process {} does not die", id.pid)));
            }
        }
        Ok(true)
    }

    /// Removes every file of the mesh. It must be stopped.
    ///
    /// # Errors
    /// When it still runs or the file system refuses.
    pub fn clean(&self) -> Result<(), Error> {
        if let Some(id) = self.running() {
            return Err(Error::Container(format!(
                "still running as process {}",
                id.pid
            )));
        }
        // The kernel ends a dead namespace's processes a moment after its launcher: try again.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                Err(source) => {
                    return Err(Error::Io {
                        what: format!("remove {}", self.path.display()),
                        source,
                    });
                }
            }
        }
    }
}

/// Stops the mesh `name` and removes its files; right also after `kill -9` of any part of it.
///
/// # Errors
/// When a process cannot be stopped or a file cannot be removed.
pub fn stop_and_clean(name: &str) -> Result<bool, Error> {
    let state = StateDir::of(name)?;
    let stopped = state.stop()?;
    let existed = state.path().exists();
    state.clean()?;
    // Leave no empty parent behind; it stays when another mesh lives in it.
    let _ = fs::remove_dir(base_dir());
    Ok(stopped || existed)
}

/// The right to start a mesh in its directory, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Claim {
    _lock: Flock<fs::File>,
}

impl ProcessId {
    /// The identity of process `pid`, when it exists.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// This very process, by its host pid.
    pub fn this() -> Option<Self> {
        Self::of(host_pid()?)
    }

    /// Whether the same process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::sys(format!("signal process {}", self.pid))(errno)),
        }
    }

    fn wait_gone(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// This process's id as the mounted `/proc` counts it, which is the host's also inside a pid namespace.
pub fn host_pid() -> Option<i32> {
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// State and start time out of `/proc/<pid>/stat`; the command in it may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Reads a JSON file; `None` when it does not exist.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::BadFile {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Replaces a JSON file in one step, so that no reader sees half of it.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::BadFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let new = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .map_err(Error::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_odd_command() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }

    #[test]
    fn own_process_is_alive_and_others_are_not() {
        let me = ProcessId::this().unwrap();
        assert!(me.is_alive());
        assert!(
            !ProcessId {
                start: me.start + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in ["", "..", "a/b", "-a", "A"] {
            assert!(StateDir::of(name).is_err(), "{name}");
        }
        assert!(StateDir::of("other-2").is_ok());
    }

    #[test]
    fn one_at_a_time_starts_a_mesh() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("m"));
        let claim = state.claim().unwrap();
        assert!(matches!(state.claim(), Err(Error::Taken)));
        // The mesh is removed while it starts: the next one does not wait for that.
        state.clean().unwrap();
        let next = state.claim().unwrap();
        assert!(matches!(state.claim(), Err(Error::Taken)));
        drop((claim, next));
        state.claim().unwrap();
    }

    #[test]
    fn clean_removes_all_and_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("m"));
        state.create().unwrap();
        write_json(&state.status_file(), &Status::default()).unwrap();
        assert_eq!(state.status().unwrap(), Some(Status::default()));
        state.clean().unwrap();
        state.clean().unwrap();
        assert!(!state.path().exists());
    }
}
