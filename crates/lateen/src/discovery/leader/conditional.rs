//! Standing for a Lease only while the task is there to be done.

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Candidate, Election};

/// An election in which a replica stands while it is wanted to.
pub(super) struct Conditional {
    leading: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Conditional {
    pub(super) fn start(candidate: Candidate, wanted: watch::Receiver<bool>) -> Self {
        let (leading_tx, leading) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(candidate, wanted, leading_tx, stop.clone()));
        Conditional {
            leading,
            stop,
            task,
        }
    }

    /// Whether this process leads, as it changes.
    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Leads no more, and lets another replica do so at once.
    pub(super) async fn resign(self) {
        self.stop.cancel();
        // It ends by itself; only a panic would be told, which has been logged.
        let _ = self.task.await;
    }
}

async fn run(
    candidate: Candidate,
    mut wanted: watch::Receiver<bool>,
    leading_tx: watch::Sender<bool>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            is_wanted = wanted.wait_for(|wanted| *wanted) => if is_wanted.is_err() { return },
        }
        let election = Election::start(candidate.clone());
        let ends = tokio::select! {
            () = stop.cancelled() => true,
            unwanted = wanted.wait_for(|wanted| !*wanted) => unwanted.is_err(),
            () = pass_on(election.leading(), &leading_tx) => true,
        };
        // First the end of this leadership, then the beginning of another's.
        leading_tx.send_if_modified(std::mem::take);
        election.resign().await;
        if ends {
            return;
        }
    }
}

async fn pass_on(mut leading: watch::Receiver<bool>, to: &watch::Sender<bool>) {
    loop {
        let leads = *leading.borrow_and_update();
        to.send_if_modified(|held| std::mem::replace(held, leads) != leads);
        if leading.changed().await.is_err() {
            return;
        }
    }
}
