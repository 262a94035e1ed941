//! Bookinfo, the sample application that the mesh is shown with.
//!
//! Four small services: *productpage* shows a book and asks *details* and *reviews* for what it
//! shows; *reviews* exists in three versions, of which two ask *ratings* for stars. Paths, JSON
//! fields, headers and time limits are those of the public sample, so that what is written about it
//! can be tried here; the program, its page and its texts are our own.

mod details;
mod forward;
mod manifests;
mod metrics;
mod productpage;
mod ratings;
mod reviews;
pub mod server;
mod settings;
mod upstream;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;

pub use manifests::{MANIFESTS, Manifest, manifest};
pub use settings::Settings;

/// Why a service could not be started or went down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such version of the service.
    #[error("{service} {version} is not supported: {reason}")]
    NotSupported {
        /// The service.
        service: &'static str,
        /// The version asked for.
        version: String,
        /// What it would need.
        reason: &'static str,
    },
    /// A setting cannot be read.
    #[error("{0} is not a valid value for {1}")]
    BadSetting(String, &'static str),
    /// The port cannot be had, or the server failed.
    #[error("cannot serve on port {port}: {source}")]
    Serve {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The machine gave no runtime.
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
}

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// The page that people look at.
    Productpage,
    /// Facts about a book.
    Details,
    /// What readers think of it.
    Reviews,
    /// How many stars they give.
    Ratings,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

/// Run one of the services of the Bookinfo sample
#[derive(Debug, Parser)]
#[command(
    name = "bookinfo",
    after_help = "Example: bookinfo reviews --version v3 --port 9080"
)]
struct Args {
    /// Which service
    service: Service,
    /// Which version of it: reviews has v1 (no stars), v2 (black) and v3 (red), the others v1
    #[arg(long = "version", env = "SERVICE_VERSION", default_value = "v1")]
    service_version: String,
    /// TCP port to listen on
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// After SIGTERM, for how many seconds to go on serving while clients move elsewhere
    #[arg(long, default_value_t = 3)]
    linger: u64,
}

/// Runs the service that the arguments name; the first argument is the program's name.
///
/// Returns after SIGTERM or SIGINT, once the requests at hand are answered.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Args = match begin(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "bookinfo {}: {error}",
                args.service.name()
            );
            ExitCode::FAILURE
        }
    }
}

/// What a sample's program does first: reads its arguments, and logs to standard error.
///
/// # Errors
/// The exit code where help was asked for or the arguments are wrong, of which the user was told.
pub fn begin<A: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let args = A::try_parse_from(args).map_err(|error| {
        // Help and usage errors; where they cannot be written there is nobody to read them.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A subscriber that is there already is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    Ok(args)
}

/// The service as a router, with its request counts at `/metrics`.
///
/// # Errors
/// If there is no such version.
pub fn router(service: Service, version: &str, settings: Settings) -> Result<Router, Error> {
    match (service, version) {
        (Service::Productpage, "v1") => Ok(productpage::router(settings)),
        (Service::Details, "v1") => Ok(details::router()),
        (Service::Ratings, "v1") => Ok(ratings::router()),
        (Service::Reviews, "v1" | "v2" | "v3") => Ok(reviews::router(version, settings)),
        (service, version) => Err(Error::NotSupported {
            service: service.name(),
            version: version.to_owned(),
            reason: match (service, version) {
                (Service::Details, "v2") => "it needs a book service on the Internet",
                (Service::Ratings, "v2") => "it needs a database",
                _ => "there is no such version",
            },
        }),
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let router = router(args.service, &args.service_version, Settings::from_env()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(Error::Runtime)?.block_on(async {
        let serve = |source| Error::Serve {
            port: args.port,
            source,
        };
        let listener = server::listen(args.port).await.map_err(serve)?;
        let (service, version) = (args.service.name(), args.service_version.as_str());
        tracing::info!(service, version, port = args.port, "listening");
        let linger = Duration::from_secs(args.linger);
        server::serve(listener, router, server::terminated(), linger)
            .await
            .map_err(serve)
    })
}
