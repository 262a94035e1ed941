//! The frame of all closed loops: tasks that send the next request when the last is answered, and
//! the clock that ends them.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::task::{JoinSet, LocalSet};

use super::gauge::Gauge;
use super::{Common, Outcome};

pub(super) type Shared = Rc<RefCell<Gauge>>;

/// Runs `n` tasks until the window is over and each has its last answer.
pub(super) async fn run<F>(common: &Common, n: usize, task: impl Fn(Shared) -> F) -> Result<Outcome>
where
    F: Future<Output = Result<()>> + 'static,
{
    let gauge = Rc::new(RefCell::new(Gauge::new(common.watch.clone())));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = JoinSet::new();
            for _ in 0..n {
                tasks.spawn_local(task(gauge.clone()));
            }
            let clock = async {
                tokio::time::sleep(common.warm()).await;
                gauge.borrow_mut().open()?;
                tokio::time::sleep(common.window()).await;
                gauge.borrow_mut().close()
            };
            tokio::pin!(clock);
            let mut running = true;
            loop {
                tokio::select! {
                    ended = &mut clock, if running => { ended?; running = false; }
                    done = tasks.join_next() => match done {
                        Some(done) => done??,
                        None => return Ok::<_, anyhow::Error>(()),
                    },
                }
            }
        })
        .await?;
    let gauge = Rc::into_inner(gauge).context("all tasks have ended")?;
    Ok(gauge.into_inner().outcome())
}
