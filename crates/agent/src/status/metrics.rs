//! One scrape of the pod: the application's metrics, the proxy's and the agent's, in one answer.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lateen_tls::IdentityStore;

use crate::config::AgentConfig;
use crate::http;

const LIMIT: Duration = Duration::from_secs(10);

/// Merges what answers. A part that does not answer is counted, and does not cost the others.
pub(crate) async fn merged(config: &AgentConfig, identity: &IdentityStore) -> Response {
    let proxy = format!("http://127.0.0.1:{}/stats/prometheus", config.ports.metrics);
    let app = async {
        match &config.app_metrics {
            Some(url) => Some(scrape(url).await),
            None => None,
        }
    };
    let (proxy, app) = tokio::join!(scrape(&proxy), app);
    let mut text = String::new();
    let failures = [("envoy", Some(&proxy)), ("application", app.as_ref())];
    for (part, result) in failures {
        if let Some(Err(error)) = result {
            tracing::debug!(part, error, "metrics are not merged");
        }
    }
    agent(
        &mut text,
        identity,
        proxy.is_err(),
        matches!(app, Some(Err(_))),
    );
    if let Ok(proxy) = proxy {
        append(&mut text, &proxy);
    }
    if let Some(Ok(app)) = app {
        append(&mut text, &app);
    }
    let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
    (StatusCode::OK, kind, text).into_response()
}

async fn scrape(url: &str) -> Result<String, String> {
    let answer = http::get(url, LIMIT).await?;
    if !answer.status.is_success() {
        return Err(answer.status.to_string());
    }
    String::from_utf8(answer.body.to_vec()).map_err(|e| e.to_string())
}

/// The end mark of OpenMetrics would hide whatever follows.
fn append(text: &mut String, part: &str) {
    let part = part.trim_end();
    text.push_str(part.strip_suffix("# EOF").unwrap_or(part).trim_end());
    text.push('\n');
}

fn agent(text: &mut String, identity: &IdentityStore, proxy_failed: bool, app_failed: bool) {
    let expiry = identity.current().ok().and_then(|i| i.not_after());
    if let Some(left) = expiry.map(seconds_left) {
        let name = "istio_agent_cert_expiry_seconds";
        family(
            text,
            name,
            "Time until the workload's certificate expires.",
            "gauge",
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}{{resource_name=\"default\"}} {left}");
    }
    let name = "istio_agent_scrape_failures";
    family(
        text,
        name,
        "Whether the last scrape of a part of the pod failed.",
        "gauge",
    );
    for (part, failed) in [("envoy", proxy_failed), ("application", app_failed)] {
        let _ = writeln!(text, "{name}{{type=\"{part}\"}} {}", u8::from(failed));
    }
}

fn family(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn seconds_left(expiry: SystemTime) -> i64 {
    let unix = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (expiry, now) = (unix(expiry), unix(SystemTime::now()));
    i64::try_from(expiry).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(i64::MAX)
}
