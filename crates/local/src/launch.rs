//! Starts the platform process from the outside: the half of `lateen up` that runs on the host.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::Error;
use crate::platform::Options;
use crate::state::StateDir;

/// Everything that the platform needs from the host.
#[derive(Debug)]
pub struct Launch {
    /// Name of the mesh.
    pub name: String,
    /// Its files; the directory must exist.
    pub state: StateDir,
    /// Host socket of the API server.
    pub api: TcpListener,
    /// Host socket that is forwarded to the ingress gateway.
    pub http: TcpListener,
    /// Addresses for LoadBalancer services, `first-last`.
    pub vip_pool: String,
}

impl Launch {
    /// Starts `lateen platform …` in a session of its own, its output in the state directory's log.
    ///
    /// # Errors
    /// When the log cannot be opened or the process cannot be started.
    pub fn spawn(self) -> Result<Child, Error> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state.log_file())
            .map_err(Error::io("open the platform's log"))?;
        let err = log
            .try_clone()
            .map_err(Error::io("share the platform's log"))?;
        let options = Options {
            name: self.name,
            state_dir: self.state.path().to_owned(),
            api_fd: self.api.as_raw_fd(),
            http_fd: self.http.as_raw_fd(),
            http_url: format!(
                "http://{}",
                self.http.local_addr().map_err(Error::io("name a socket"))?
            ),
            vip_pool: self.vip_pool,
        };
        for fd in [&self.api, &self.http] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))
                .map_err(Error::sys("inherit a socket"))?;
        }
        let exe = env::current_exe().map_err(Error::io("find this program"))?;
        let json =
            serde_json::to_string(&options).map_err(|error| Error::Option(error.to_string()))?;
        let mut command = Command::new(exe);
        command
            .args(["platform", &json])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            // Ctrl-C in the terminal is for `lateen up`, which then stops the mesh in order.
            .process_group(0);
        command.spawn().map_err(Error::io("start the platform"))
    }
}
