//! What the kernel says about a process: time on a processor, and memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Nanoseconds that the processes have spent on a processor, all threads together. The process
/// clock is the scheduler's own account (the sum of `/proc/PID/task/*/schedstat`); it also has the
/// threads that have ended, and the time since the last tick of those that run now.
pub(crate) fn cpu_ns(pids: &[u32]) -> Result<u64> {
    let mut total = Duration::ZERO;
    for pid in pids {
        let pid = Pid::from_raw(i32::try_from(*pid).context("a process id")?);
        let clock = clock_getcpuclockid(pid).with_context(|| format!("process {pid} has ended"))?;
        total += Duration::from(
            clock
                .now()
                .with_context(|| format!("process {pid} has ended"))?,
        );
    }
    u64::try_from(total.as_nanos()).context("centuries")
}

/// Nanoseconds that the machine's processors have been busy, with whatever it was.
pub(crate) fn machine_ns() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    busy_ns(&text).context("/proc/stat has no times")
}

/// The kernel counts in hundredths of a second there (`USER_HZ`, proc_stat(5)).
fn busy_ns(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line
        .split_whitespace()
        .map_while(|time| time.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; what others took from a guest is not ours.
    let [user, nice, system, _, _, irq, softirq, ..] = times[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq) * 10_000_000)
}

/// The most memory that a process has had, bytes.
pub(crate) fn peak(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(first_number).context("status has VmHWM")?;
    Ok(kilobytes * 1024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Memory of a process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident, with the parts of files that are mapped.
    pub(crate) rss: u64,
    /// Resident, with what several processes map divided among them.
    pub(crate) pss: u64,
    /// Resident and in no file: what the program itself asked for.
    pub(crate) anonymous: u64,
}

/// The memory of a process now.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(path)?;
    rollup(&text).context("smaps_rollup has Rss and Pss")
}

fn rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(first_number(line)? * 1024)
    };
    Some(Memory {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
        anonymous: field("Anonymous:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(first_number("4711 22 3\n"), Some(4711));
        let text = "5587-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 2048 kB\nPss: 1 kB\nPss_Dirty: 9 kB\nAnonymous: 3 kB\n";
        let expect = Memory {
            rss: 2 << 20,
            pss: 1024,
            anonymous: 3072,
        };
        assert_eq!(rollup(text), Some(expect));
        assert_eq!(rollup("Rss: 1 kB\n"), None);
        assert_eq!(busy_ns("cpu  1 2 3 400 50 6 7 0 0 0\n"), Some(190_000_000));
        assert_eq!(busy_ns("cpu 1 2\n"), None);
    }

    #[test]
    fn time_passes_for_this_process() {
        let own = std::process::id();
        assert!(cpu_ns(&[own]).expect("readable") > 0);
        assert!(memory(own).expect("readable").rss > 0);
        assert!(peak(own).expect("readable") > 0);
        assert!(machine_ns().expect("readable") > 0);
    }
}
