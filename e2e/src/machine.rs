//! A look at the machine, to prove that a mesh leaves it as it was.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

/// What a mesh could leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Network interfaces of this namespace.
    pub interfaces: BTreeSet<String>,
    /// Named network namespaces.
    pub namespaces: BTreeSet<String>,
    /// Mounts of this namespace.
    pub mounts: BTreeSet<String>,
    /// Tables of the packet filter that this namespace's kernel shows.
    pub tables: BTreeSet<String>,
}

impl Machine {
    /// Looks now.
    pub fn look() -> Self {
        Machine {
            interfaces: entries("/sys/class/net"),
            namespaces: entries("/run/netns"),
            mounts: mounts(),
            tables: lines("/proc/net/ip_tables_names"),
        }
    }
}

/// The processes of meshes that one binary runs: to know what was there before, and what is left.
///
/// What a mesh starts runs the same file, or is a descendant of its platform; a command line says
/// nothing, since a pod's processes name no mesh.
#[derive(Clone, Debug)]
pub struct Processes {
    binary: (u64, u64),
    /// Processes that ran the binary before: somebody else's mesh.
    before: BTreeSet<Process>,
    /// Descendants of platforms, whatever they run.
    ours: BTreeSet<Process>,
}

/// A process: its number, which is used again, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    began: u64,
}

impl Processes {
    /// Looks before a mesh of this binary is started.
    pub fn before(binary: &Path) -> anyhow::Result<Self> {
        let file = fs::metadata(binary)?;
        let mut processes = Processes {
            binary: (file.dev(), file.ino()),
            before: BTreeSet::new(),
            ours: BTreeSet::new(),
        };
        processes.before = processes.running();
        Ok(processes)
    }

    /// Notes all descendants of a platform, so that none of them escapes by being another program.
    pub fn note(&mut self, platform: i32) {
        let descends = |process: &Process| ancestors(process.pid).any(|one| one.pid == platform);
        self.ours.extend(all().filter(descends));
    }

    /// How many processes were noted.
    pub fn n_noted(&self) -> usize {
        self.ours.len()
    }

    /// What is still there, with command lines.
    pub fn left(&self) -> Vec<String> {
        let strangers = |process: &Process| {
            std::iter::once(*process)
                .chain(ancestors(process.pid))
                .any(|one| self.before.contains(&one))
        };
        let mut left: BTreeSet<Process> = self.running();
        left.retain(|process| !strangers(process));
        left.extend(all().filter(|process| self.ours.contains(process)));
        left.iter().map(describe).collect()
    }

    /// The processes whose program is this file, under whatever name.
    fn running(&self) -> BTreeSet<Process> {
        let own = std::process::id();
        let runs = |process: &Process| {
            fs::metadata(format!("/proc/{}/exe", process.pid))
                .is_ok_and(|exe| (exe.dev(), exe.ino()) == self.binary)
        };
        all()
            .filter(|process| process.pid.unsigned_abs() != own)
            .filter(runs)
            .collect()
    }
}

fn all() -> impl Iterator<Item = Process> {
    entries("/proc")
        .into_iter()
        .filter_map(|name| Some(stat(name.parse().ok()?)?.0))
}

/// A process and its parent's number; none where it has ended and only waits to be reaped.
fn stat(pid: i32) -> Option<(Process, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; state, parent, and as 22nd field the start.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let began = fields.nth(17)?.parse().ok()?;
    (state != "Z" && state != "X").then_some((Process { pid, began }, parent))
}

fn ancestors(pid: i32) -> impl Iterator<Item = Process> {
    let parent = |pid: i32| stat(pid).and_then(|(_, parent)| stat(parent));
    std::iter::successors(parent(pid), move |(process, _)| parent(process.pid))
        .map(|(process, _)| process)
}

fn describe(process: &Process) -> String {
    let command = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    format!("{}: {command}", process.pid)
}

fn entries(folder: &str) -> BTreeSet<String> {
    let Ok(folder) = fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    folder
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn lines(file: &str) -> BTreeSet<String> {
    fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Where something is mounted, without the numbers that change at every look.
fn mounts() -> BTreeSet<String> {
    let all = lines("/proc/self/mountinfo");
    all.iter()
        .filter_map(|line| line.split(' ').nth(4))
        .map(str::to_owned)
        .collect()
}
