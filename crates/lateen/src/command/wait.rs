//! `lateen wait`: until an object is in force on the proxies.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use kube::{Client, api::DynamicObject};
use lateen_api::Kind;
use lateen_pilot::{Refusal, Share};
use lateen_registry::WATCHED_KINDS;
use tokio::time::Instant;

use super::kinds;
use crate::{cli::Global, client, output};

/// How often the replicas are asked.
const EVERY: Duration = Duration::from_millis(200);

/// The exit status when the time is over.
pub(crate) const TIMED_OUT: u8 = 3;

/// Wait until an object is in force on the proxies, or gone from them.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 when it is so, 3 when the time is over, 1 for what will not come to be so \
                  (no such object, not valid) or cannot be found out.\n\n\
                  Examples:\n  \
                  lateen wait --for=distribution virtualservice reviews.default\n  \
                  lateen wait --for=distribution --threshold=0.99 --timeout=300s destinationrule reviews\n  \
                  lateen wait --for=delete virtualservice reviews.default"
)]
pub(crate) struct Wait {
    /// What to wait for.
    #[arg(long = "for", value_enum, default_value_t)]
    condition: Condition,
    /// The generation to wait for; without it, the newest one.
    #[arg(long)]
    generation: Option<i64>,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// The part of the proxies that must have it.
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    threshold: f64,
    /// Say how far it is while waiting.
    #[arg(short, long)]
    verbose: bool,
    /// The object's kind: `virtualservice`, `virtual-service` or `vs`.
    kind: String,
    /// The object's name: `NAME[.NAMESPACE]`.
    name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Condition {
    /// Each proxy has accepted it.
    #[default]
    Distribution,
    /// It is gone, and each proxy has accepted that.
    Delete,
}

/// The time is over.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TimedOut(String);

/// A time with its unit: `500ms`, `30s`, `1.5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let of = |number: &str, unit: f64| -> Option<Duration> {
        let number: f64 = number.parse().ok()?;
        Duration::try_from_secs_f64(number * unit).ok()
    };
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut units = units.into_iter();
    units
        .find_map(|(unit, seconds)| of(text.strip_suffix(unit)?, seconds))
        .ok_or_else(|| format!("{text:?} is not like 30s, 500ms or 2m"))
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value
        .filter(|value| (0.0..=1.0).contains(value))
        .ok_or_else(|| format!("{text:?} is not between 0 and 1"))
}

/// The kind that a user means, by any of its names.
fn kind(text: &str) -> anyhow::Result<&'static Kind> {
    let Some(found) = kinds::find(text) else {
        let all: Vec<_> = WATCHED_KINDS.iter().map(|kind| kind.singular).collect();
        bail!(
            "{text:?} is no kind of the mesh: there are {}",
            all.join(", ")
        );
    };
    if !WATCHED_KINDS.iter().any(|kind| kind.kind == found.kind) {
        bail!(
            "{} is not supported: nothing of it is sent to proxies",
            found.kind
        );
    }
    Ok(found)
}

/// How far it got in the whole mesh.
#[derive(Debug, Default)]
struct Progress {
    /// Replicas that do not know of it, or of this generation.
    behind: usize,
    proxies: usize,
    acknowledged: usize,
    who: Vec<String>,
}

impl Progress {
    /// `None` stands for a replica that knows nothing of the object.
    fn of(shares: &[Option<Share>], condition: Condition, generation: i64) -> Progress {
        let mut progress = Progress::default();
        for share in shares {
            let known = share.as_ref().filter(|share| match condition {
                Condition::Distribution => !share.gone && share.generation >= generation,
                Condition::Delete => true,
            });
            let Some(share) = known else {
                progress.behind += usize::from(condition == Condition::Distribution);
                continue;
            };
            // What is not even known to be gone is on all of them.
            let is_kept = condition == Condition::Delete && !share.gone;
            progress.proxies += share.proxies;
            progress.acknowledged += if is_kept { 0 } else { share.acknowledged };
            progress.behind += usize::from(is_kept);
            progress.who.extend(share.outstanding.iter().cloned());
            progress.who.extend(share.refused.iter().map(|refusal| {
                let Refusal {
                    proxy,
                    r#type,
                    reason,
                } = refusal;
                format!("{proxy} (refused {type}: {reason})")
            }));
        }
        progress
    }

    fn is_enough(&self, threshold: f64) -> bool {
        let wanted = threshold * self.proxies as f64;
        self.behind == 0 && self.acknowledged as f64 >= wanted
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} out of {} proxies", self.acknowledged, self.proxies)?;
        if self.behind > 0 {
            write!(
                f,
                ", {} replicas of the control plane are behind",
                self.behind
            )?;
        }
        if !self.who.is_empty() {
            write!(f, ", not on {}", self.who.join(", "))?;
        }
        Ok(())
    }
}

impl Wait {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let kind = kind(&self.kind)?;
        let (name, namespace) = match self.name.rsplit_once('.') {
            Some((name, namespace)) => (name, namespace),
            None => (&*self.name, &*global.namespace),
        };
        let end = Instant::now() + self.timeout;
        let client = client::connect(global).await?;
        let api = kinds::api(&client, kind, namespace);
        let called = format!("{} {name}.{namespace}", kind.kind);
        loop {
            let object = api.get_opt(name).await;
            let object = object.with_context(|| format!("cannot read {called}"))?;
            let generation = self.generation(&called, object.as_ref())?;
            let shares = shares(&client, global, kind, namespace, name).await?;
            let progress = Progress::of(&shares, self.condition, generation);
            let is_there = object.is_some() == (self.condition == Condition::Distribution);
            if is_there && progress.is_enough(self.threshold) {
                let is = match self.condition {
                    Condition::Distribution => format!("generation {generation} is in force on"),
                    Condition::Delete => "is gone from".to_owned(),
                };
                output::line(format_args!("{called}: {is} {progress}"));
                return Ok(());
            }
            if self.verbose {
                eprintln!("{called}: {progress}");
            }
            if Instant::now() + EVERY > end {
                let over = format!("{called}: after {:?} on {progress}", self.timeout);
                return Err(TimedOut(over).into());
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// The generation that is waited for. What will never come to be is an error.
    fn generation(&self, called: &str, object: Option<&DynamicObject>) -> anyhow::Result<i64> {
        if self.condition == Condition::Delete {
            return Ok(0);
        }
        let object = object.with_context(|| format!("there is no {called}"))?;
        let newest = object.metadata.generation.unwrap_or_default();
        let wanted = self.generation.unwrap_or(newest);
        if let Some(why) = invalid(object, newest) {
            bail!("{called}: generation {newest} is not valid: {why}");
        }
        Ok(wanted)
    }
}

/// What the control plane says of an object that it does not take.
fn invalid(object: &DynamicObject, generation: i64) -> Option<String> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| {
        condition["type"] == "Reconciled"
            && condition["reason"] == "Invalid"
            && condition["observedGeneration"] == generation
    });
    Some(found?["message"].as_str().unwrap_or_default().to_owned())
}

/// What each replica says.
async fn shares(
    client: &Client,
    global: &Global,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Vec<Option<Share>>> {
    let kind = kind.kind;
    let path = format!("/debug/distributionz?kind={kind}&namespace={namespace}&name={name}");
    let mut all = Vec::new();
    for pod in client::control_plane_pods(client, global).await? {
        let text = client::pod_get(client, &global.istio_namespace, &pod, 8080, &path).await?;
        let shares: Vec<Share> = serde_json::from_str(&text)
            .with_context(|| format!("pod {pod} answered in another form"))?;
        all.push(shares.into_iter().next());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(generation: i64, acknowledged: usize, proxies: usize) -> Option<Share> {
        Some(Share {
            generation,
            proxies,
            acknowledged,
            ..Share::default()
        })
    }

    #[test]
    fn all_replicas_count() {
        let check = |shares: &[Option<Share>], threshold: f64, expect: bool| {
            let progress = Progress::of(shares, Condition::Distribution, 2);
            assert_eq!(progress.is_enough(threshold), expect, "{progress}");
        };
        check(&[share(2, 3, 3)], 1.0, true);
        check(&[share(3, 3, 3)], 1.0, true);
        check(&[share(2, 0, 0)], 1.0, true);
        check(&[share(1, 3, 3)], 0.0, false);
        check(&[None], 0.0, false);
        check(&[share(2, 3, 3), None], 1.0, false);
        check(&[share(2, 3, 3), share(2, 1, 2)], 1.0, false);
        check(&[share(2, 3, 3), share(2, 1, 2)], 0.8, true);
    }

    #[test]
    fn what_is_gone_is_gone_from_all() {
        let check = |shares: &[Option<Share>], expect: bool| {
            let progress = Progress::of(shares, Condition::Delete, 0);
            assert_eq!(progress.is_enough(1.0), expect, "{progress}");
        };
        let going = share(0, 1, 2).map(|share| Share {
            gone: true,
            ..share
        });
        check(&[None, None], true);
        check(&[None, going], false);
        check(&[share(2, 3, 3)], false);
    }

    #[test]
    fn progress_names_who_is_missing() {
        let mut share = share(2, 1, 3).expect("one");
        share.outstanding = vec!["a.b".to_owned()];
        share.refused = vec![Refusal {
            proxy: "c.d".to_owned(),
            r#type: "LDS".to_owned(),
            reason: "no".to_owned(),
        }];
        let progress = Progress::of(&[Some(share)], Condition::Distribution, 2);
        let expect = "1 out of 3 proxies, not on a.b, c.d (refused LDS: no)";
        assert_eq!(progress.to_string(), expect);
    }

    #[test]
    fn kinds_that_no_proxy_is_sent_are_refused() {
        assert_eq!(
            kind("vs").map(|kind| kind.kind).ok(),
            Some("VirtualService")
        );
        let error = |name| {
            kind(name)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(error("pod").contains("is no kind of the mesh"));
        assert!(error("telemetry").contains("not supported"));
    }

    #[test]
    fn times_are_as_in_go() {
        let ms = |text: &str| duration(text).ok().map(|time| time.as_millis());
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("1.5m"), Some(90_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("30"), None);
        assert_eq!(ms("-1s"), None);
    }
}
