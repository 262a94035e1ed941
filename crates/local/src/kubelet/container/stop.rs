//! How a container is made to end: its hook, a polite signal, and the grace that it gets.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{ContainerTask, Run};
use crate::Error;
use crate::container::process::Exit;
use crate::kubelet::hooks;

/// What a container gets to end at least, whatever its hook took of the grace (as Kubernetes).
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl ContainerTask {
    /// preStop, SIGTERM, and SIGKILL when the grace is over.
    pub(super) async fn terminate(
        &self,
        run: &mut Run,
        target: &hooks::Target,
        end: Instant,
    ) -> Result<Exit, Error> {
        self.context
            .board
            .container(&self.container.name, |state| state.ready = false);
        let granted = self.context.grace();
        let least = if granted.is_zero() {
            Duration::ZERO
        } else {
            LEAST_GRACE
        };
        let hook = self.container.lifecycle.as_ref();
        if let Some(hook) = hook.and_then(|lifecycle| lifecycle.pre_stop.clone())
            && !granted.is_zero()
        {
            let left = end.max(Instant::now() + least) - Instant::now();
            tokio::select! {
                () = hooks::pre_stop(hook, target, left) => {}
                exit = run.running.wait() => return exit,
                () = self.grace_ends(granted, end - granted) => {}
            }
        }
        run.running.signal(Signal::SIGTERM);
        tokio::select! {
            exit = run.running.wait() => return exit,
            () = tokio::time::sleep_until(end.max(Instant::now() + least)) => {}
            () = self.grace_ends(granted, end - granted) => {}
        }
        run.running.signal(Signal::SIGKILL);
        run.running.wait().await
    }

    /// Ends when the pod's grace was shortened, by a second deletion, and is over.
    async fn grace_ends(&self, granted: Duration, begun: Instant) {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let grace = self.context.grace();
            if grace < granted && Instant::now() >= begun + grace {
                return;
            }
        }
    }
}
