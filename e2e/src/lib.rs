//! What the end-to-end tests share: a mesh of their own, started by the real
//! binary, requests through its gateway, and a look at the machine before and
//! after.

pub mod browser;
pub mod desk;
pub mod exec;
pub mod forward;
pub mod grpc;
pub mod http;
pub mod idle;
pub mod inside;
pub mod kubectl;
pub mod machine;
pub mod mesh;
pub mod samples;
pub mod tls;
pub mod web;
pub mod wire;

pub use desk::Desk;
pub use idle::Idle;
pub use kubectl::Kubectl;
pub use mesh::Mesh;

use std::time::{Duration, Instant};

/// The limit of every wait. It is generous: a test waits for a condition, not for time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again until the answer is `Ok`, and fails with the last reason when [`PATIENCE`] ends.
pub async fn eventually<T, F>(what: &str, mut ask: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<T>,
{
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(error.context(format!("waited {PATIENCE:?} for {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
