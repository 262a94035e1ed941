//! Installing, changing and removing the mesh on a platform that has none.

use std::sync::{Mutex, MutexGuard};

mod addons;
mod article;
mod asked;
mod clusters;
mod defaults;
mod dry_run;
mod faults;
mod forwarding;
mod founding;
mod page;
mod platform;
mod profiles;
mod races;
mod revisions;
mod tenants;

/// Platforms are heavy, and what is left behind is looked at: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(future)
}
