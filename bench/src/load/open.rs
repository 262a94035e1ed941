//! HTTP/1.1 at fixed moments. A request that is due while all connections are busy waits, and its
//! time runs from when it was due: a proxy that stalls does not hide it by slowing the load.
//!
//! Timers of runtimes are too coarse for this, so that this is a loop around `ppoll(2)`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

use super::gauge::Gauge;
use super::{Open, Outcome};
use crate::wire::{ANSWER, h1};

pub(super) fn run(args: &Open) -> Result<Outcome> {
    // By default the kernel may be 50 µs late.
    prctl::set_timerslack(1).context("timer slack")?;
    let mut connections = (0..args.connections)
        .map(|_| Connection::open(args.common.port))
        .collect::<Result<Vec<_>>>()?;
    let request = h1::request(0, false);
    let mut gauge = Gauge::new(args.common.watch.clone());
    let mut schedule = Schedule::new(args.rate);
    let opens = schedule.next + args.common.warm();
    let closes = opens + args.common.window();
    let mut opened = false;
    loop {
        let now = Instant::now();
        if !opened && now >= opens {
            gauge.open()?;
            opened = true;
        }
        if opened && !gauge.is_closed() && now >= closes {
            gauge.close()?;
        }
        if !gauge.is_closed() {
            schedule.advance(now);
        }
        for connection in connections.iter_mut().filter(|c| c.due.is_none()) {
            let Some(due) = schedule.waiting.pop_front() else {
                break;
            };
            connection.send(&request, due)?;
        }
        let busy = connections
            .iter()
            .any(|connection| connection.due.is_some());
        if gauge.is_closed() && !busy {
            return Ok(gauge.outcome());
        }
        let until = if gauge.is_closed() {
            Duration::from_secs(10)
        } else {
            schedule.next.saturating_duration_since(Instant::now())
        };
        receive(&mut connections, until, &mut gauge)?;
    }
}

/// When requests are due.
struct Schedule {
    next: Instant,
    every: Duration,
    waiting: VecDeque<Instant>,
}

impl Schedule {
    fn new(rate: u32) -> Self {
        Schedule {
            next: Instant::now(),
            every: Duration::from_secs(1) / rate,
            waiting: VecDeque::new(),
        }
    }

    fn advance(&mut self, now: Instant) {
        while self.next <= now {
            self.waiting.push_back(self.next);
            self.next += self.every;
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was due.
    due: Option<Instant>,
    input: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            due: None,
            input: Vec::new(),
        })
    }

    fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        self.due = Some(due);
        // A request is smaller than an empty socket's buffer.
        self.stream.write_all(request).context("send a request")
    }

    /// When the request was due whose answer is now complete.
    fn receive(&mut self) -> Result<Option<Instant>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the connection ended instead of an answer"),
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("read an answer"),
        }
        let Some(length) = h1::response(&self.input, ANSWER)? else {
            return Ok(None);
        };
        ensure!(length == self.input.len(), "more than one answer");
        self.input.clear();
        Ok(self.due.take())
    }
}

fn receive(connections: &mut [Connection], until: Duration, gauge: &mut Gauge) -> Result<()> {
    let ready: Vec<_> = {
        let mut polled: Vec<_> = connections
            .iter()
            .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
            .collect();
        ppoll(&mut polled, Some(TimeSpec::from_duration(until)), None)?;
        polled.iter().map(|fd| fd.any() == Some(true)).collect()
    };
    for (connection, ready) in connections.iter_mut().zip(ready) {
        if ready && let Some(due) = connection.receive()? {
            gauge.count(due);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_still_due() {
        let mut schedule = Schedule::new(1000);
        let start = schedule.next;
        schedule.advance(start + Duration::from_micros(2500));
        let offsets: Vec<_> = schedule.waiting.iter().map(|due| *due - start).collect();
        assert_eq!(offsets, [0, 1, 2].map(Duration::from_millis));
        assert_eq!(schedule.next - start, Duration::from_millis(3));
    }
}
