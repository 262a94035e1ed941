//! Levels of parts of a program, under the names that operators know: Envoy's loggers at the proxy,
//! Istio's scopes at the control plane. To the log both are targets, which are paths of modules.

use super::LogError;

/// A part of a program whose level can be set by itself.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// What operators call it.
    pub name: &'static str,
    /// What it logs, for people.
    pub about: &'static str,
    /// The modules that it is. Of none is the scope of all that is in no other.
    pub targets: &'static [&'static str],
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// What an operator must act on.
    Error,
    /// What was recovered from.
    Warn,
    /// What happens seldom.
    Info,
    /// What happens to single objects and streams.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// As the log itself, Envoy or Istio names it: `warn`, `warning`; `off`, `none`; `critical` and
    /// `fatal` are errors here.
    ///
    /// # Errors
    /// When it is no level.
    pub fn parse(text: &str) -> Result<Level, LogError> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "off" | "none" => Level::Off,
            "error" | "critical" | "fatal" => Level::Error,
            "warn" | "warning" => Level::Warn,
            "info" => Level::Info,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => return Err(LogError::Level(text.to_owned())),
        })
    }

    /// As the log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// The level of a scope under these directives: of those that name its module or one around it, the
/// most precise.
pub(super) fn level_of(directives: &str, scope: &Scope) -> Level {
    let of = scope.targets.first().copied().unwrap_or_default();
    let around = |target: &str| {
        target.is_empty()
            || of
                .strip_prefix(target)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let found = directives.split(',').filter_map(simple);
    let found = found.filter(|(target, _)| around(target));
    // Of two for one module the later one counts.
    let precise = found.max_by_key(|(target, _)| target.len());
    // Without any, only errors are logged.
    precise.map_or(Level::Error, |(_, level)| level)
}

/// The directives with this level for a scope.
pub(super) fn with_level(directives: &str, scope: &Scope, level: Level) -> String {
    let everything_else = [""];
    let targets = match scope.targets {
        [] => everything_else.as_slice(),
        targets => targets,
    };
    let stays = |directive: &&str| {
        !directive.is_empty() && simple(directive).is_none_or(|(own, _)| !targets.contains(&own))
    };
    let mut all: Vec<String> = directives
        .split(',')
        .map(str::trim)
        .filter(stays)
        .map(str::to_owned)
        .collect();
    let level = level.as_str();
    all.extend(targets.iter().map(|target| match *target {
        "" => level.to_owned(),
        target => format!("{target}={level}"),
    }));
    all.join(",")
}

/// Operators' form, `default:info,ads:debug` or a level alone, as directives; what is in the log's own
/// form already stays as it is.
///
/// # Errors
/// When it names a scope that there is not, or a level that is none.
pub fn directives(text: &str, scopes: &[Scope]) -> Result<String, LogError> {
    let (named, own): (Vec<&str>, Vec<&str>) = text
        .split(',')
        .map(str::trim)
        .partition(|part| is_of_scope(part));
    let mut all = own.join(",");
    for part in named {
        let (name, level) = part.split_once(':').unwrap_or((part, ""));
        all = with_level(&all, find(scopes, name)?, Level::parse(level)?);
    }
    Ok(all)
}

/// `ads:debug`, which is not the path of a module.
fn is_of_scope(part: &str) -> bool {
    !part.contains("::") && !part.contains('=') && part.contains(':')
}

/// The scope of a name.
///
/// # Errors
/// When there is none; the error names those there are.
pub(super) fn find<'a>(scopes: &'a [Scope], name: &str) -> Result<&'a Scope, LogError> {
    scopes
        .iter()
        .find(|scope| scope.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = scopes.iter().map(|scope| scope.name).collect();
            LogError::Scope(name.to_owned(), names.join(", "))
        })
}

/// A directive that is a level, or a module and its level.
fn simple(directive: &str) -> Option<(&str, Level)> {
    let (target, level) = directive.trim().split_once('=').unwrap_or(("", directive));
    Some((target, Level::parse(level).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: &[Scope] = &[
        Scope {
            name: "default",
            about: "",
            targets: &[],
        },
        Scope {
            name: "http",
            about: "",
            targets: &["lateen_http", "lateen_proxy::http"],
        },
        Scope {
            name: "main",
            about: "",
            targets: &["lateen_proxy"],
        },
    ];

    fn levels(directives: &str) -> [Level; 3] {
        [0, 1, 2].map(|scope| level_of(directives, &SCOPES[scope]))
    }

    #[test]
    fn the_most_precise_directive_counts() {
        use Level::{Debug, Error, Info, Off, Warn};
        for (text, expect) in [
            ("info", [Info, Info, Info]),
            ("", [Error, Error, Error]),
            ("off,lateen_http=debug", [Off, Debug, Off]),
            ("lateen_proxy=debug,warn", [Warn, Warn, Debug]),
            ("lateen_prox=debug,warn", [Warn, Warn, Warn]),
            ("warn,[span{a=b}]=debug", [Warn, Warn, Warn]),
        ] {
            assert_eq!(levels(text), expect, "{text}");
        }
    }

    #[test]
    fn one_scope_is_set_and_the_others_stay() {
        use Level::{Debug, Info, Warn};
        let text = "info,lateen_proxy=warn,[span{a=b}]=trace";
        let text = with_level(text, &SCOPES[1], Debug);
        assert_eq!(levels(&text), [Info, Debug, Warn]);
        assert!(text.contains("[span{a=b}]=trace"), "{text}");
        let text = with_level(&text, &SCOPES[0], Warn);
        assert_eq!(levels(&text), [Warn, Debug, Warn]);
        assert_eq!(with_level(&text, &SCOPES[0], Warn), text);
    }

    #[test]
    fn operators_form_is_translated() {
        for (text, expect) in [
            ("info", Ok("info")),
            ("default:debug", Ok("debug")),
            (
                "info,http:none",
                Ok("info,lateen_http=off,lateen_proxy::http=off"),
            ),
            (
                "info,lateen_proxy::http=debug",
                Ok("info,lateen_proxy::http=debug"),
            ),
            (
                "ads:debug",
                Err("there is no log scope \"ads\"; there are: default, http, main"),
            ),
            ("http:loud", Err("not a log level: loud")),
        ] {
            let given = directives(text, SCOPES).map_err(|error| error.to_string());
            assert_eq!(given.as_deref().map_err(String::as_str), expect, "{text}");
        }
    }
}
