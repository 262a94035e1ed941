//! A look at the machine, to prove that a mesh leaves it as it was.

use std::{collections::BTreeSet, fs, path::Path};

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

/// The processes whose command line names this text, apart from this one. Of a mesh that is its
/// platform; pods' processes do not name the mesh, they die with the platform's pid namespace.
pub fn processes_naming(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let numbers = entries("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    numbers
        .filter(|pid| *pid != own)
        .filter_map(|pid| mention(&pid, text))
        .collect()
}

fn mention(pid: &str, text: &str) -> Option<String> {
    let command = fs::read(Path::new("/proc").join(pid).join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    command.contains(text).then(|| format!("{pid}: {command}"))
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
