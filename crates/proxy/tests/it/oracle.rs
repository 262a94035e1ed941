//! Real Envoy beside our proxy: the same configuration and the same checks for both.
//!
//! Envoy is found as `$ENVOY`. Where it is not set, the tests say that it was not asked.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::{Proxy, free_port, merge, socket};

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Envoy,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a check against both, each with listeners of its own, made for a port that is free.
pub(crate) async fn both(
    listeners: impl Fn(u16) -> Value,
    clusters: Value,
    check: impl AsyncFn(Who, u16),
) {
    both_in(json!({}), listeners, clusters, check).await;
}

/// The same with more in the bootstrap.
pub(crate) async fn both_in(
    around: Value,
    listeners: impl Fn(u16) -> Value,
    clusters: Value,
    check: impl AsyncFn(Who, u16),
) {
    let port = free_port();
    let resources = json!({ "listeners": listeners(port), "clusters": clusters });
    let proxy = Proxy::start_in(&around, port, resources).await;
    check(Who::Ours, port).await;
    proxy.stop().await;
    let Some(envoy) = std::env::var_os("ENVOY") else {
        eprintln!("no ENVOY is named: what Envoy does was NOT compared");
        return;
    };
    let (port, admin) = (free_port(), free_port());
    let mut bootstrap = json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": socket("127.0.0.1", admin) },
        "static_resources": { "listeners": listeners(port), "clusters": clusters },
    });
    merge(&mut bootstrap, &around);
    let log = tempfile();
    let child = Command::new(envoy)
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--file-flush-interval-msec",
            "20",
            "-l",
            "warning",
        ])
        .args(["--config-yaml", &bootstrap.to_string()])
        .stdout(Stdio::null())
        .stderr(log.1)
        .spawn()
        .expect("Envoy runs");
    let mut envoy = Envoy(child);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let ended = envoy.0.try_wait().expect("a child");
        let log = || std::fs::read_to_string(&log.0).unwrap_or_default();
        assert!(ended.is_none(), "Envoy ended: {}", log());
        assert!(began.elapsed() < PATIENCE, "Envoy is late: {}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check(Who::Envoy, port).await;
    let _ = std::fs::remove_file(&log.0);
}

fn tempfile() -> (std::path::PathBuf, std::fs::File) {
    let name = format!("lateen-oracle-{}-{}", std::process::id(), free_port());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::create(&path).expect("a file");
    (path, file)
}

struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
