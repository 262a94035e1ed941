//! The server of the health-check sample.

use axum::Router;
use axum::routing::get;

use crate::{Error, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TCP port to listen on
    #[arg(long, default_value_t = 8001)]
    port: u16,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let router = Router::new().route("/foo", get(|| async { "healthy\n" }));
        serve::http(self.port, router).await
    }
}
