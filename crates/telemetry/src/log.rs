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
    change(|_| Ok(level.to_owned()))
}

/// Replaces the level by what is made of it. Whoever changes one scope keeps the others, so nobody else
/// may change the level between.
fn change(to: impl FnOnce(&str) -> Result<String, LogError>) -> Result<(), LogError> {
    let not_ready = || LogError::Setup("it was not set up here".to_owned());
    let (handle, current) = CONTROL.get().ok_or_else(not_ready)?;
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    let level = to(&current)?;
    handle
        .reload(parse(&level)?)
        .map_err(|error| LogError::Setup(error.to_string()))?;
    *current = level;
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
    change(|current| {
        let mut directives = all.map_or(current, |level| level.as_str()).to_owned();
        for (name, level) in changes {
            directives = scopes::with_level(&directives, scopes::find(scopes, name)?, *level);
        }
        Ok(directives)
    })
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const SCOPES: &[Scope] = &[
        Scope {
            name: "one",
            about: "",
            targets: &["lateen_one"],
        },
        Scope {
            name: "two",
            about: "",
            targets: &["lateen_two"],
        },
    ];

    /// Two who change different scopes at once both have what they asked for.
    #[test]
    fn changes_at_once_all_hold() {
        init("info", false).expect("the log of this test");
        for round in 0..500 {
            set_level("info").expect("a level");
            let barrier = Barrier::new(SCOPES.len());
            std::thread::scope(|threads| {
                for scope in SCOPES {
                    threads.spawn(|| {
                        barrier.wait();
                        let changes = [(scope.name, Level::Debug)];
                        set_levels(SCOPES, None, &changes).expect("scopes that there are");
                    });
                }
            });
            for (scope, level) in levels(SCOPES) {
                assert_eq!(level, Level::Debug, "{} in round {round}", scope.name);
            }
        }
    }
}
