//! The terminal of a program that a user talks to.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::pty::openpty;
use nix::unistd::{setsid, ttyname};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Program;
use crate::Error;

/// A terminal that nobody uses yet.
pub(super) struct Terminal {
    master: OwnedFd,
    /// Held until the program has it: a terminal that nobody has open reads as ended.
    slave: OwnedFd,
    /// Where the program's side is opened.
    pub(super) path: PathBuf,
}

impl Terminal {
    pub(super) fn open() -> Result<Self, Error> {
        let pty = openpty(None, None).map_err(Error::sys("make a terminal"))?;
        let path = ttyname(&pty.slave).map_err(Error::sys("name a terminal"))?;
        Ok(Self {
            master: pty.master,
            slave: pty.slave,
            path,
        })
    }

    /// Gives the program's streams to it. The helper says on its own output what it cannot do, and
    /// that is shown as the program's error.
    pub(super) fn attach(self, mut helper: tokio::process::Child) -> Result<Program, Error> {
        let master = File::from(self.master);
        let side = || {
            let side = master.try_clone().map_err(Error::io("share a terminal"))?;
            Ok::<_, Error>(tokio::fs::File::from_std(side))
        };
        let (stdin, stdout) = (side()?, side()?);
        let stderr = helper.stderr.take();
        let slave = self.slave;
        if let Some(mut unused) = helper.stdout.take() {
            // It ends when the program has begun or has failed to.
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut unused, &mut tokio::io::sink()).await;
                drop(slave);
            });
        }
        Ok(Program {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: stderr.map(|stderr| Box::new(stderr) as _),
            resize: Box::new(move |columns, rows| {
                let size = Winsize {
                    ws_col: columns,
                    ws_row: rows,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Err(error) = tcsetwinsize(&master, size) {
                    tracing::debug!(%error, "a terminal keeps its size");
                }
            }),
            helper,
        })
    }
}

/// Makes the terminal the one of this process, and its standard streams.
pub(super) fn take(terminal: &OwnedFd) -> Result<(), Error> {
    setsid().map_err(Error::sys("begin a session"))?;
    // Who leads a session and opens a terminal that belongs to none gets it.
    let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let opened = File::options().read(true).write(true).open(&path);
    let opened = opened.map_err(Error::io("open the terminal"))?;
    let fd = opened.as_fd();
    nix::unistd::dup2_stdin(fd).map_err(Error::sys("set the input"))?;
    nix::unistd::dup2_stdout(fd).map_err(Error::sys("set the output"))?;
    nix::unistd::dup2_stderr(fd).map_err(Error::sys("set the error output"))
}
