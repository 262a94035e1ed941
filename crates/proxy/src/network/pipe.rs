//! Pipes for `splice(2)`, lent to a direction while bytes are in flight.

use std::cell::RefCell;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes of a pipe; also the most that a user without privileges may ask for
/// (`/proc/sys/fs/pipe-max-size`).
const SIZE: i32 = 1 << 20;
/// A user with too many pipes (`pipe-user-pages-soft`) gets them of a page or two, which are worse
/// than a buffer.
const LEAST: i32 = 64 * 1024;
/// Unused pipes that a thread keeps. One busy connection uses one for each direction, in turn.
const KEPT: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and how many bytes are in it.
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    /// What it may hold.
    size: usize,
    filled: usize,
}

impl Pipe {
    /// An empty one.
    pub(super) fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (reader, writer) = io::pipe()?;
        let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(SIZE))
            .or_else(|_| fcntl(&writer, FcntlArg::F_GETPIPE_SZ))?;
        if size < LEAST {
            return Err(io::Error::other("pipes are scarce"));
        }
        Ok(Pipe {
            reader,
            writer,
            size: usize::try_from(size).unwrap_or(0),
            filled: 0,
        })
    }

    /// Gives it back. One that still holds bytes is closed, and they are lost.
    pub(super) fn put(self) {
        if self.filled == 0 {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < KEPT {
                    pool.push(self);
                }
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Moves what has arrived into the pipe, which must be empty: a full pipe and an empty socket
    /// give the same error. 0 is the end.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert!(self.is_empty());
        let moved = from.try_io(Interest::READABLE, || {
            move_bytes(from, &self.writer, self.size)
        })?;
        self.filled = moved;
        Ok(moved)
    }

    /// Moves what is in the pipe to a socket, as far as it takes it.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let moved = to.try_io(Interest::WRITABLE, || {
            move_bytes(&self.reader, to, self.filled)
        })?;
        self.filled -= moved.min(self.filled);
        Ok(moved)
    }
}

fn move_bytes(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(from.as_fd(), None, to.as_fd(), None, most, flags) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
pub(super) fn kept() -> usize {
    POOL.with_borrow(Vec::len)
}
