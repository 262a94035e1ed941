//! Health of a workload outside of the platform: nobody but its agent can look at it there.
//!
//! The agent runs the probe that the workload's group has, and tells the control plane when the
//! outcome turns. The workload is well where the probe and the proxy beside it are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_xds::TypeUrl;
use serde_json::Value;

use crate::config::AgentConfig;
use crate::names;
use crate::status::{Status, probe};

/// A probe and when it counts. Defaults are the kubelet's.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    delay: Duration,
    limit: Duration,
    period: Duration,
    n_success: u32,
    n_failures: u32,
    probe: Value,
}

impl Readiness {
    /// Of the field `readinessProbe`; its error says what is wrong with it.
    pub(crate) fn of(probe: &Value) -> Result<Readiness, String> {
        let number = |field: &str, default: u32| match &probe[field] {
            Value::Null => Ok(default),
            given => match given.as_u64().and_then(|n| u32::try_from(n).ok()) {
                // As if it were not written.
                Some(0) => Ok(default),
                Some(n) => Ok(n),
                None => Err(format!("{field}: {given} is no number of zero or more")),
            },
        };
        let seconds =
            |field, default| number(field, default).map(|n| Duration::from_secs(u64::from(n)));
        let ways = ["httpGet", "tcpSocket", "exec", "grpc"];
        let n_ways = ways.iter().filter(|way| probe[**way].is_object()).count();
        if n_ways != 1 {
            return Err(format!("exactly one of {} must be set", ways.join(", ")));
        }
        Ok(Readiness {
            delay: seconds("initialDelaySeconds", 0)?,
            limit: seconds("timeoutSeconds", 1)?,
            period: seconds("periodSeconds", 10)?,
            n_success: number("successThreshold", 1)?,
            n_failures: number("failureThreshold", 3)?,
            probe: probe.clone(),
        })
    }

    async fn check(&self, own: IpAddr) -> Result<(), String> {
        probe::check(&self.probe, own, self.limit).await
    }
}

/// Counts outcomes, and says when they make a difference.
#[derive(Debug, Default)]
struct Turns {
    /// What was told last, if anything.
    is_well: Option<bool>,
    n_success: u32,
    n_failures: u32,
}

impl Turns {
    /// Takes an outcome in; whether it is to be told.
    fn take(&mut self, is_good: bool, readiness: &Readiness) -> bool {
        let (n, most) = if is_good {
            (self.n_success, self.n_failures) = (self.n_success.saturating_add(1), 0);
            (self.n_success, readiness.n_success)
        } else {
            (self.n_success, self.n_failures) = (0, self.n_failures.saturating_add(1));
            (self.n_failures, readiness.n_failures)
        };
        let turns = n >= most && self.is_well != Some(is_good);
        if turns {
            self.is_well = Some(is_good);
        }
        turns
    }
}

/// Checks and tells; never returns.
pub(crate) async fn keep(config: Arc<AgentConfig>, readiness: Readiness, status: Arc<Status>) {
    let mut ads = match names::open(&config) {
        Ok(ads) => ads,
        Err(error) => {
            tracing::error!(%error, "health is not told");
            return std::future::pending().await;
        }
    };
    let subscriber = ads.subscriber.clone();
    let checked = Arc::new(readiness);
    let readiness = checked.clone();
    let check = move || {
        let (checked, status, own) = (checked.clone(), status.clone(), config.ips[0]);
        async move {
            status.ready().await?;
            checked.check(own).await
        }
    };
    let tell = |fault: Option<String>| subscriber.report(TypeUrl::HEALTH, fault);
    tokio::select! {
        () = watch(&readiness, check, tell) => {}
        // Nothing is asked for, and so nothing comes.
        () = async { while let Some(update) = ads.updates.recv().await { update.ack() } } => {}
    }
}

async fn watch<F>(readiness: &Readiness, check: impl Fn() -> F, tell: impl Fn(Option<String>))
where
    F: Future<Output = Result<(), String>>,
{
    tokio::time::sleep(readiness.delay).await;
    let mut ticks = tokio::time::interval(readiness.period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turns = Turns::default();
    loop {
        ticks.tick().await;
        let fault = check().await.err();
        if turns.take(fault.is_none(), readiness) {
            tracing::info!(fault, "health of the workload");
            tell(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn readiness(probe: Value) -> Readiness {
        Readiness::of(&probe).expect("valid")
    }

    #[test]
    fn probes_are_read() {
        let least = readiness(json!({"tcpSocket": {"port": 1}, "periodSeconds": 0}));
        let seconds = Duration::from_secs;
        assert_eq!(
            (
                least.delay,
                least.limit,
                least.period,
                least.n_success,
                least.n_failures
            ),
            (seconds(0), seconds(1), seconds(10), 1, 3)
        );
        for wrong in [
            json!({}),
            json!({"tcpSocket": {}, "exec": {}}),
            json!({"tcpSocket": {}, "periodSeconds": -1}),
            json!({"tcpSocket": {}, "failureThreshold": "x"}),
        ] {
            Readiness::of(&wrong).expect_err(&wrong.to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_told_after_their_thresholds() {
        let readiness = readiness(json!({
            "exec": {"command": ["true"]}, "initialDelaySeconds": 5, "periodSeconds": 2,
            "successThreshold": 2, "failureThreshold": 3,
        }));
        let outcomes = [
            true, true, true, false, false, true, false, false, false, false, true, true,
        ];
        let started = tokio::time::Instant::now();
        let next = Mutex::new(outcomes.into_iter());
        let told = Mutex::new(Vec::new());
        let check = || async {
            let outcome = next.lock().expect("whole").next();
            match outcome {
                Some(true) => Ok(()),
                Some(false) => Err("refused".to_owned()),
                None => std::future::pending().await,
            }
        };
        let tell = |fault| {
            let at = started.elapsed().as_secs();
            told.lock().expect("whole").push((at, fault));
        };
        let all = Duration::from_secs(60);
        let _ = tokio::time::timeout(all, watch(&readiness, check, tell)).await;
        let refused = Some("refused".to_owned());
        let told = told.into_inner().expect("whole");
        assert_eq!(told, [(7, None), (21, refused), (27, None)]);
    }

    #[tokio::test]
    async fn each_kind_of_probe_is_run() {
        let answer = get(async |headers: HeaderMap| match headers.get("x-ask") {
            Some(value) if value == "yes" => StatusCode::FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let router = Router::new().route("/healthz", answer);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let nobody = closed.local_addr().expect("bound").port();
        drop(closed);
        let header = json!([{"name": "x-ask", "value": "yes"}]);
        let http = |host: &str, headers: &Value| {
            json!({"httpGet": {"path": "/healthz", "port": port, "host": host,
                               "httpHeaders": headers}})
        };
        let exec = |command: &[&str]| json!({"exec": {"command": command}});
        for (probe, expect) in [
            (http("", &header), Ok(())),
            (http("localhost", &header), Ok(())),
            (http("", &json!([])), Err("503")),
            (
                json!({"httpGet": {"path": "/none", "port": port}}),
                Err("404"),
            ),
            (json!({"tcpSocket": {"port": port}}), Ok(())),
            (
                json!({"tcpSocket": {"port": port, "host": "localhost"}}),
                Ok(()),
            ),
            (json!({"tcpSocket": {"port": nobody}}), Err("refused")),
            (json!({"grpc": {"port": nobody}}), Err("")),
            (exec(&["true"]), Ok(())),
            (
                exec(&["sh", "-c", "echo broken >&2; exit 3"]),
                Err("broken"),
            ),
            (exec(&["/no/such/program"]), Err("cannot run")),
            (exec(&["sleep", "60"]), Err("not ended")),
        ] {
            let found = readiness(probe.clone()).check(OWN).await;
            match expect {
                Ok(()) => assert_eq!(found, Ok(()), "{probe}"),
                Err(part) => {
                    let why = found.expect_err(&probe.to_string());
                    assert!(why.contains(part), "{probe}: {why}");
                }
            }
        }
        server.abort();
    }
}
