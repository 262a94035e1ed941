//! The process' own log: lines on standard error, as text or JSON, with a level that can be changed
//! while it runs.

use std::sync::{Mutex, OnceLock, PoisonError};

mod scopes;

pub use scopes::{Level, Scope, directives};
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
    /// A scope that there is not, and those there are.
    #[error("there is no log scope {0:?}; there are: {1}")]
    Scope(String, String),
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

/// Each of these scopes with its level.
pub fn levels(scopes: &[Scope]) -> Vec<(Scope, Level)> {
    let directives = level();
    let each = |scope: &Scope| (*scope, scopes::level_of(&directives, scope));
    scopes.iter().map(each).collect()
}

/// Sets one level for everything, where one is given, and then those of single scopes.
///
/// # Errors
/// When one of the scopes does not exist; then nothing is changed.
pub fn set_levels(
    scopes: &[Scope],
    all: Option<Level>,
    changes: &[(&str, Level)],
) -> Result<(), LogError> {
    let mut directives = match all {
        Some(level) => level.as_str().to_owned(),
        None => level(),
    };
    for (name, level) in changes {
        directives = scopes::with_level(&directives, scopes::find(scopes, name)?, *level);
    }
    set_level(&directives)
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
