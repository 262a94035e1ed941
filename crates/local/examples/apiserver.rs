//! Runs the API server alone, for trying `kubectl`: `apiserver DIRECTORY [ADDRESS]`; writes `DIRECTORY/kubeconfig`.

use std::sync::Arc;

use futures::StreamExt;
use lateen_local::apiserver::pki::Pki;
use lateen_local::apiserver::{ApiServer, Config, LogOptions, LogSource, LogStream};

struct Sample;

#[async_trait::async_trait]
impl LogSource for Sample {
    async fn open(
        &self,
        namespace: &str,
        pod: &str,
        _uid: &str,
        options: LogOptions,
    ) -> Result<LogStream, String> {
        let line = format!("{namespace}/{pod}/{}: hello\n", options.container);
        Ok(futures::stream::iter([Ok(line.into())]).boxed())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter("info,lateen_local=debug")
        .init();
    let mut arguments = std::env::args().skip(1);
    let store = arguments
        .next()
        .ok_or_else(|| anyhow::anyhow!("which directory?"))?
        .into();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = std::net::TcpListener::bind(address)?;
    let directory: std::path::PathBuf = store;
    let pki = Pki::load_or_create(&directory.join("pki"))?;
    let server = format!("https://{}", listener.local_addr()?);
    std::fs::write(
        directory.join("kubeconfig"),
        pki.admin_kubeconfig("example", &server)?,
    )?;
    let server = ApiServer::new(Config {
        store: directory,
        listeners: vec![listener],
        pki: Some(Arc::new(pki)),
        logs: Some(Arc::new(Sample)),
        dialer: None,
        executor: None,
    })
    .await?;
    server
        .serve(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}
