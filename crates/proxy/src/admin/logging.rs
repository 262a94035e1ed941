//! `/logging`: the loggers and their levels, under Envoy's names where it has a logger for the same.

use std::fmt::Write;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lateen_telemetry::{Level, LogError, Scope};

use super::Params;

const fn logger(name: &'static str, targets: &'static [&'static str]) -> Scope {
    Scope {
        name,
        about: "",
        targets,
    }
}

/// In the order of their names, as Envoy lists its own.
#[rustfmt::skip]
const LOGGERS: &[Scope] = &[
    logger("admin", &["lateen_proxy::admin"]),
    // What is in the same process beside the proxy.
    logger("agent", &["lateen_agent"]),
    logger("config", &["lateen_proxy::state", "lateen_proxy::ads", "lateen_xds", "lateen_decode"]),
    logger("connection", &["lateen_proxy::listener", "lateen_proxy::socket", "lateen_proxy::bind"]),
    logger("dns", &["lateen_proxy::cluster::dns", "lateen_agent::dns"]),
    logger("filter", &["lateen_proxy::network"]),
    logger("http", &["lateen_proxy::http", "lateen_http"]),
    logger("main", &["lateen_proxy"]),
    logger("misc", &[]),
    logger("secret", &["lateen_proxy::secrets", "lateen_tls"]),
    logger("udp", &["lateen_proxy::udp"]),
    logger("upstream", &["lateen_proxy::cluster", "lateen_balance"]),
];

/// Changes what the question asks for and lists all: `?level=` is for every logger,
/// `?paths=http:debug,udp:trace` for several, `?http=debug` for one.
pub(super) async fn handle(Query(params): Params) -> Response {
    let asked = params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    match change(asked) {
        Ok(()) => list().into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("error: {error}\n")).into_response(),
    }
}

/// The level of all first, so that those of single loggers hold beside it.
fn change<'a>(asked: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), LogError> {
    let mut all = None;
    let mut single = Vec::new();
    for (name, value) in asked {
        match name {
            "level" => all = Some(Level::parse(value)?),
            "paths" => {
                for part in value.split(',').filter(|part| !part.is_empty()) {
                    let (name, level) = part.split_once(':').unwrap_or((part, ""));
                    single.push((name, Level::parse(level)?));
                }
            }
            name => single.push((name, Level::parse(value)?)),
        }
    }
    match (all, single.as_slice()) {
        (None, []) => Ok(()),
        (all, single) => lateen_telemetry::set_levels(LOGGERS, all, single),
    }
}

fn list() -> String {
    let mut text = "active loggers:\n".to_owned();
    for (logger, level) in lateen_telemetry::levels(LOGGERS) {
        let level = match level {
            Level::Warn => "warning",
            level => level.as_str(),
        };
        let _ = writeln!(text, "  {}: {level}", logger.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_after(asked: &[(&str, &str)]) -> Result<String, String> {
        change(asked.iter().copied()).map_err(|error| error.to_string())?;
        let listed = list();
        let listed = listed
            .strip_prefix("active loggers:\n")
            .expect("Envoy's form");
        let wanted = ["admin", "http", "misc"];
        let lines = listed.lines().map(str::trim);
        let lines = lines.filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        Ok(lines.collect::<Vec<_>>().join(" "))
    }

    /// One test, as the log is one for the process.
    #[test]
    fn levels_are_changed_as_envoy_changes_them() {
        lateen_telemetry::init("info,lateen_proxy=warn", false).expect("nothing else logs here");
        let of = |asked: &[(&str, &str)]| levels_after(asked);
        let start = of(&[]).expect("a listing");
        assert!(start.starts_with("admin: warning http: "), "{start}");
        for (asked, expect) in [
            (
                &[("level", "warning")][..],
                "admin: warning http: warning misc: warning",
            ),
            (
                &[("http", "debug")],
                "admin: warning http: debug misc: warning",
            ),
            (
                &[("paths", "http:trace,admin:off")],
                "admin: off http: trace misc: warning",
            ),
            (&[("misc", "error")], "admin: off http: trace misc: error"),
            (
                &[("http", "debug"), ("level", "critical")],
                "admin: error http: debug misc: error",
            ),
        ] {
            assert_eq!(of(asked).as_deref(), Ok(expect), "{asked:?}");
        }
        for (asked, why) in [
            (&[("nothing", "debug")][..], "there is no log scope"),
            (&[("level", "loud")], "not a log level: loud"),
            (&[("paths", "http")], "not a log level: "),
            (
                &[("http", "info"), ("nothing", "debug")],
                "there is no log scope",
            ),
        ] {
            let told = of(asked).expect_err("it is wrong");
            assert!(told.contains(why), "{told}");
        }
        let after = of(&[]).expect("a listing");
        assert_eq!(after, "admin: error http: debug misc: error");
    }
}
