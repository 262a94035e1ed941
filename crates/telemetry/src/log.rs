//! The process' own log: lines on standard error, as text or JSON, with a level that can be changed
//! while it runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no list of levels.
    #[error("not a log level: {0}")]
    Level(String),
    /// The log is not set up, or was set up by somebody else.
    #[error("the log cannot be set up: {0}")]
    Setup(String),
}

type Reload = Handle<EnvFilter, tracing_subscriber::Registry>;

static CONTROL: OnceLock<(Reload, Mutex<String>)> = OnceLock::new();

/// Sets up the log. `level` is a level such as `info`, or a list such as `info,lateen_proxy=debug`.
/// A second call only changes the level.
pub fn init(level: &str, json: bool) -> Result<(), LogError> {
    if CONTROL.get().is_some() {
        return set_level(level);
    }
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let base = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(true);
    let result = if json {
        base.with(layer.json().flatten_event(true)).try_init()
    } else {
        base.with(layer.with_ansi(false)).try_init()
    };
    result.map_err(|error| LogError::Setup(error.to_string()))?;
    // A second initialisation fails above, so nobody else can have been here.
    let _ = CONTROL.set((handle, Mutex::new(level.to_owned())));
    Ok(())
}

/// Changes the level.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = parse(level)?;
    let not_ready = || LogError::Setup("it was not set up here".to_owned());
    let (handle, current) = CONTROL.get().ok_or_else(not_ready)?;
    handle
        .reload(filter)
        .map_err(|error| LogError::Setup(error.to_string()))?;
    level.clone_into(&mut current.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// The level as last set.
pub fn level() -> String {
    let current = CONTROL.get().map(|(_, current)| {
        current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    });
    current.unwrap_or_default()
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    // Envoy's names for levels that tracing calls otherwise.
    let level = match level {
        "warning" => "warn",
        "critical" => "error",
        level => level,
    };
    EnvFilter::try_new(level).map_err(|_| LogError::Level(level.to_owned()))
}
