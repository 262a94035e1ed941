//! helloworld: two versions that say who they are.

use axum::Router;
use axum::routing::get;

use crate::{Error, hostname, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TCP port to listen on
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// What it says its version is
    #[arg(long = "version", env = "SERVICE_VERSION", default_value = "unknown")]
    service_version: String,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        serve::http(self.port, router(&self.service_version, &hostname())).await
    }
}

fn router(version: &str, instance: &str) -> Router {
    let hello = format!("Hello version: {version}, instance: {instance}\n");
    Router::new()
        .route("/hello", get(move || std::future::ready(hello.clone())))
        .route("/health", get(|| async { "Helloworld is healthy" }))
}
