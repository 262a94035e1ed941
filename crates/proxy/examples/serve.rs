//! Serves from an Envoy bootstrap in a file, with static resources and no control plane, so that
//! tools from elsewhere can be pointed at the data path: `serve BOOTSTRAP.json [WORKERS]`.

use std::process::ExitCode;
use std::sync::Arc;

use lateen_proxy::{BootstrapSource, ProxyOptions};
use lateen_tls::IdentityStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(file), workers) = (args.next(), args.next()) else {
        eprintln!("usage: serve BOOTSTRAP.json [WORKERS]");
        return ExitCode::FAILURE;
    };
    let Ok(concurrency) = workers.map_or(Ok(1), |workers| workers.parse()) else {
        eprintln!("the number of workers is not a number");
        return ExitCode::FAILURE;
    };
    let identity = Arc::new(IdentityStore::empty());
    let options = ProxyOptions {
        concurrency,
        ..ProxyOptions::new(BootstrapSource::File(file.into()), identity)
    };
    match lateen_proxy::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
