//! How fresh the registry's sources are, as metrics.

use std::fmt::Write;

use lateen_registry::{Freshness, SourceStatus};

/// In Prometheus' text form: for each source whether it is fresh, and for how long it has been what it
/// is.
pub(super) fn render(sources: &[SourceStatus], text: &mut String) {
    const FRESH: &str = "registry_source_fresh";
    const AGE: &str = "registry_source_state_seconds";
    head(text, FRESH, "1 while what the source says is up to date.");
    for source in sources {
        let fresh = u8::from(source.freshness == Freshness::Fresh);
        line(
            text,
            format_args!("{FRESH}{{source=\"{}\"}} {fresh}", source.name),
        );
    }
    head(text, AGE, "For how long the source has been in its state.");
    for source in sources {
        let state = match source.freshness {
            Freshness::Waiting => "waiting",
            Freshness::Fresh => "fresh",
            Freshness::Late => "late",
            Freshness::Stale => "stale",
        };
        let (name, age) = (source.name, source.since.elapsed().as_secs());
        line(
            text,
            format_args!("{AGE}{{source=\"{name}\",state=\"{state}\"}} {age}"),
        );
    }
}

fn head(text: &mut String, name: &str, help: &str) {
    line(
        text,
        format_args!("# HELP {name} {help}\n# TYPE {name} gauge"),
    );
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_stale_source_shows() {
        let of = |name, freshness| SourceStatus {
            name,
            freshness,
            since: Instant::now() - Duration::from_secs(5),
            reason: None,
        };
        let mut text = String::new();
        render(
            &[of("Pod", Freshness::Fresh), of("Node", Freshness::Stale)],
            &mut text,
        );
        for want in [
            "registry_source_fresh{source=\"Pod\"} 1\n",
            "registry_source_fresh{source=\"Node\"} 0\n",
            "registry_source_state_seconds{source=\"Node\",state=\"stale\"} ",
        ] {
            assert!(text.contains(want), "{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 2);
    }
}
