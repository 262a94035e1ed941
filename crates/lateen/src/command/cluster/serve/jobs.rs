//! Clusters that are on their way, and what became of those that did not arrive.
//!
//! The work is done by the command itself, in a process of its own: it says the same when it fails, and the
//! sockets that it hands to the platform are in nobody else's hands.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use super::super::Row;

#[derive(Clone, Debug)]
enum Job {
    /// What is done.
    Busy(&'static str),
    Failed(String),
}

/// By the cluster's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    all: Arc<Mutex<BTreeMap<String, Job>>>,
}

impl Jobs {
    /// Runs `lateen cluster` with these arguments, unless something is done to the cluster already or it is
    /// not as it `must_be`; whether it does. Both are looked at and noted in one step, so that of two
    /// requests at once only one is taken.
    pub(super) fn start(
        &self,
        name: &str,
        what: &'static str,
        args: &[&str],
        must_be: impl FnOnce() -> bool,
    ) -> bool {
        if !self.begin(name, what, must_be) {
            return false;
        }
        let (jobs, name) = (self.clone(), name.to_owned());
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        tokio::spawn(async move {
            let failed = run(&args).await.err();
            jobs.note(&name, failed.map(Job::Failed));
        });
        true
    }

    fn begin(&self, name: &str, what: &'static str, must_be: impl FnOnce() -> bool) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(all.get(name), Some(Job::Busy(_))) || !must_be() {
            return false;
        }
        all.insert(name.to_owned(), Job::Busy(what));
        true
    }

    pub(super) fn is_busy(&self, name: &str) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(all.get(name), Some(Job::Busy(_)))
    }

    /// Drops the message of a failure; whether there was one.
    pub(super) fn forget(&self, name: &str) -> bool {
        self.note(name, None).is_some()
    }

    fn note(&self, name: &str, job: Option<Job>) -> Option<Job> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match job {
            Some(job) => all.insert(name.to_owned(), job),
            None => all.remove(name),
        }
    }

    /// The clusters that there are, with what is under way or has failed.
    pub(super) fn merge(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, job) in all.iter() {
            let at = rows
                .iter()
                .position(|row| row.name == *name)
                .unwrap_or_else(|| {
                    rows.push(Row {
                        name: name.clone(),
                        ..Row::default()
                    });
                    rows.len() - 1
                });
            (rows[at].state, rows[at].error) = match job {
                Job::Busy(what) => ((*what).to_owned(), None),
                Job::Failed(why) => ("failed".to_owned(), Some(why.clone())),
            };
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

/// Runs the command; what it said if it failed.
async fn run(args: &[String]) -> Result<(), String> {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let Output { status, stderr, .. } =
        lateen(&[&[OsStr::new("cluster")], &args[..]].concat()).await?;
    if status.success() {
        return Ok(());
    }
    Err(reason(&String::from_utf8_lossy(&stderr)).to_owned())
}

/// Whether everything in a cluster is as it should be, and what is said of it.
pub(super) async fn verify_install(kubeconfig: &Path) -> Result<(bool, String), String> {
    let args = [
        OsStr::new("-c"),
        kubeconfig.as_os_str(),
        OsStr::new("verify-install"),
    ];
    let output = lateen(&args).await?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        said.push_str(reason(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok((output.status.success(), said))
}

/// Runs this program.
async fn lateen(args: &[&OsStr]) -> Result<Output, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let output = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.await;
    output.map_err(|error| format!("cannot start this program: {error}"))
}

/// What a command says at its end when it fails, behind the name of the program; before it, it may have
/// said how far it got.
fn reason(said: &str) -> &str {
    let said = said.trim();
    let behind = said.rsplit_once("\nlateen: ").map(|(_, why)| why);
    behind
        .or_else(|| said.strip_prefix("lateen: "))
        .unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_the_command_ends_with() {
        for (said, why) in [
            ("lateen: no room\n", "no room"),
            (
                "Start the platform\nlateen: no room:\nfull",
                "no room:\nfull",
            ),
            ("killed", "killed"),
        ] {
            assert_eq!(reason(said), why);
        }
    }

    #[test]
    fn of_two_at_once_one_is_taken() {
        let jobs = Jobs::default();
        let barrier = std::sync::Barrier::new(8);
        let taken = std::thread::scope(|scope| {
            let each = || {
                barrier.wait();
                jobs.begin("a", "creating", || true)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(each)).collect();
            let taken = threads.into_iter().map(|one| one.join().expect("no panic"));
            taken.filter(|taken| *taken).count()
        });
        assert_eq!(taken, 1);
        assert!(!jobs.begin("b", "creating", || false) && !jobs.is_busy("b"));
        // One that failed may be tried again.
        jobs.note("a", Some(Job::Failed("no room".into())));
        assert!(jobs.begin("a", "creating", || true));
    }

    #[test]
    fn what_is_under_way_is_shown_with_what_there_is() {
        let jobs = Jobs::default();
        jobs.note("a", Some(Job::Busy("creating")));
        jobs.note("c", Some(Job::Failed("no room".into())));
        let there = Row {
            name: "b".into(),
            state: "running".into(),
            ..Row::default()
        };
        let rows = jobs.merge(vec![there]);
        let shown: Vec<_> = rows.iter().map(|row| (&*row.name, &*row.state)).collect();
        assert_eq!(
            shown,
            [("a", "creating"), ("b", "running"), ("c", "failed")]
        );
        assert_eq!(rows[2].error.as_deref(), Some("no room"));
        assert!(jobs.is_busy("a") && !jobs.is_busy("c"));
        assert!(jobs.forget("c") && !jobs.forget("c"));
    }
}
