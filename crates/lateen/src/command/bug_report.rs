//! `lateen bug-report`: what is needed to look into a fault from elsewhere, in one archive: objects,
//! logs, what the control plane knows and what the proxies have, and what analysis says.
//!
//! What cannot be had is listed in the archive and does not keep the rest from being collected. Keys,
//! tokens and the contents of Secrets are taken out of everything before it is written.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{cli::Global, client, command::proxy_config::ADMIN, output};

mod archive;
mod pieces;
mod redact;
mod selection;

use archive::Archive;
use pieces::{Had, Piece};
use selection::{Range, Selection};

/// The archive's name, and the folder in it.
const FILE: &str = "bug-report.tar.gz";
const FOLDER: &str = "bug-report";
/// Namespaces whose pods have no part in the mesh.
const EXCLUDED: &str = "kube-node-lease,kube-public,kube-system,local-path-storage";

/// Collect logs, configuration and state of the mesh into one archive.
#[derive(Debug, Args)]
#[command(
    after_help = "A selection is NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS: each part a list \
                  divided by commas, with * for anything, and parts at the end may be left out. Labels \
                  and annotations are KEY=VALUE, and all of them must be there; the slash of a key such as \
                  app.kubernetes.io/name divides no parts, as a dot is before it.\n\n\
                  Examples:\n  \
                  lateen bug-report\n  \
                  lateen bug-report --include shop,cart --duration 1h --dir /tmp\n  \
                  lateen bug-report --include 'shop/*/*/app=reviews' --exclude '*/*/*/private=true'\n  \
                  lateen bug-report --include '*/*/*/app.kubernetes.io/part-of=shop'\n  \
                  lateen bug-report --dry-run"
)]
pub(crate) struct BugReport {
    /// Only proxies of this selection; may be given several times.
    #[arg(long, value_name = "SELECTION")]
    include: Vec<Selection>,
    /// No proxies of this selection, whatever is included; may be given several times.
    #[arg(long, value_name = "SELECTION", default_value = EXCLUDED)]
    exclude: Vec<Selection>,
    /// Logs of this time alone, until now or --end-time: `90m`, `24h`.
    #[arg(long, value_parser = super::wait::duration, conflicts_with = "start_time")]
    duration: Option<Duration>,
    /// Logs from this time on: `2026-11-26T18:00:00Z`.
    #[arg(long, value_parser = selection::time)]
    start_time: Option<SystemTime>,
    /// Logs until this time; without it, until now.
    #[arg(long, value_parser = selection::time)]
    end_time: Option<SystemTime>,
    /// Keys, tokens and the contents of Secrets too. Whoever has the archive then has the mesh.
    #[arg(long)]
    full_secrets: bool,
    /// List what would be collected, and collect nothing.
    #[arg(long)]
    dry_run: bool,
    /// How many questions are asked at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512), value_name = "N")]
    rq_concurrency: u16,
    /// When to stop; what there is by then is written.
    #[arg(long, default_value = "30m", value_parser = super::wait::duration)]
    timeout: Duration,
    /// The folder that the archive is put into.
    #[arg(
        short = 'o',
        long,
        alias = "output-dir",
        default_value = ".",
        value_name = "FOLDER"
    )]
    dir: PathBuf,
    /// The port of the proxies' admin interfaces.
    #[arg(long = "proxy-admin-port", default_value_t = ADMIN, value_name = "PORT")]
    admin_port: u16,
}

/// How collecting went.
#[derive(Debug, Default)]
struct Outcome {
    n_files: usize,
    /// What could not be had, and why.
    failed: Vec<String>,
    is_over_time: bool,
}

impl BugReport {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.timeout;
        let client = client::connect(global).await?;
        let plan = pieces::Plan {
            client,
            global: global.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            range: self.range()?,
            admin_port: self.admin_port,
        };
        let pieces = tokio::time::timeout_at(deadline, plan.pieces())
            .await
            .context("the cluster's pods were not listed in time")??;
        if self.dry_run {
            for piece in &pieces {
                output::line(&piece.path);
            }
            return Ok(());
        }
        let archive = Archive::create(&self.dir.join(FILE), FOLDER)?;
        let outcome = self.collect(&archive, pieces, deadline).await?;
        archive.add("errors.txt", outcome.told()).await?;
        archive
            .add("parameters.txt", format!("{self:#?}\n"))
            .await?;
        let path = archive.finish().await?;
        if !outcome.failed.is_empty() || outcome.is_over_time {
            eprint!("lateen: not everything could be had:\n{}", outcome.told());
        }
        if self.full_secrets {
            eprintln!(
                "lateen: the archive holds keys and tokens: give it to nobody who may not have them"
            );
        }
        output::line(format_args!(
            "{} ({} files)",
            path.display(),
            outcome.n_files
        ));
        Ok(())
    }

    fn range(&self) -> anyhow::Result<Range> {
        let end = self.end_time.unwrap_or_else(SystemTime::now);
        let start = match self.duration {
            Some(duration) => end.checked_sub(duration),
            None => self.start_time,
        };
        if start.is_some_and(|start| start >= end) {
            bail!("--start-time: it is not before the end of the logs");
        }
        Ok(Range {
            start,
            end: self.end_time,
        })
    }

    /// Fetches everything, and writes it as it comes. The deadline ends fetching: what is there by then is
    /// written, however long that takes.
    async fn collect(
        &self,
        archive: &Archive,
        pieces: Vec<Piece>,
        deadline: Instant,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let at_once = usize::from(self.rq_concurrency);
        let mut fetched = stream::iter(pieces)
            .map(|piece| async move {
                let written = match tokio::time::timeout_at(deadline, piece.fetch).await {
                    Ok(Ok(had)) => Some(self.written(had).await),
                    Ok(Err(error)) => Some(Err(error)),
                    Err(_) => None,
                };
                (piece.path, written)
            })
            .buffer_unordered(at_once);
        while let Some((path, result)) = fetched.next().await {
            match result {
                Some(Ok(Some(text))) => {
                    archive.add(&path, text).await?;
                    outcome.n_files += 1;
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => outcome.failed.push(format!("{path}: {error:#}")),
                None => outcome.is_over_time = true,
            }
        }
        outcome.failed.sort();
        Ok(outcome)
    }

    /// A piece as it is written. Large ones take long, and meanwhile others are to be fetched.
    async fn written(&self, had: Had) -> anyhow::Result<Option<String>> {
        let full_secrets = self.full_secrets;
        let written = tokio::task::spawn_blocking(move || written(had, full_secrets));
        written
            .await
            .context("what was fetched cannot be written")?
    }
}

/// A piece without what opens doors.
fn written(had: Had, full_secrets: bool) -> anyhow::Result<Option<String>> {
    let text = match had {
        Had::Nothing => return Ok(None),
        Had::Text(text) => text,
        Had::Object(mut value) => {
            if !full_secrets {
                redact::object(&mut value);
            }
            serde_yaml_ng::to_string(&value)?
        }
    };
    Ok(Some(match full_secrets {
        true => text,
        false => redact::text(&text),
    }))
}

impl Outcome {
    /// A line for each failure.
    fn told(&self) -> String {
        let lines = self.failed.iter().map(|line| redact::text(line));
        let mut text: String = lines.map(|line| format!("{line}\n")).collect();
        if self.is_over_time {
            text += "The time was over before everything was collected; --timeout gives more.\n";
        }
        if text.is_empty() {
            text += "Everything was had.\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn report(timeout: Duration, full_secrets: bool) -> BugReport {
        BugReport {
            include: Vec::new(),
            exclude: Vec::new(),
            duration: None,
            start_time: None,
            end_time: None,
            full_secrets,
            dry_run: false,
            rq_concurrency: 2,
            timeout,
            dir: PathBuf::new(),
            admin_port: ADMIN,
        }
    }

    fn piece(path: &str, had: anyhow::Result<Had>) -> Piece {
        Piece {
            path: path.to_owned(),
            fetch: async move { had }.boxed_local(),
        }
    }

    /// What fails is listed, and the rest is there.
    #[tokio::test]
    async fn failures_do_not_keep_the_rest_out() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::create(&folder.path().join(FILE), FOLDER).unwrap();
        let report = report(Duration::from_secs(60), false);
        let pieces = vec![
            piece("a.txt", Ok(Had::Text("password: hunter2".to_owned()))),
            piece("b.txt", Err(anyhow::anyhow!("no rights"))),
            piece("c.txt", Ok(Had::Nothing)),
        ];
        let deadline = Instant::now() + report.timeout;
        let outcome = report.collect(&archive, pieces, deadline).await.unwrap();
        assert_eq!((outcome.n_files, outcome.is_over_time), (1, false));
        assert_eq!(outcome.told(), "b.txt: no rights\n");
        let path = archive.finish().await.unwrap();
        let files = archive::tests::read(&path);
        assert_eq!(files["bug-report/a.txt"], "password: <redacted>");
        assert_eq!(files.len(), 1);
    }

    #[tokio::test]
    async fn the_end_of_the_time_keeps_what_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::create(&folder.path().join(FILE), FOLDER).unwrap();
        let report = report(Duration::from_secs(1), true);
        let never = Piece {
            path: "never".to_owned(),
            fetch: std::future::pending().boxed_local(),
        };
        let first = piece("a.txt", Ok(Had::Text("password: kept".to_owned())));
        // It is over already: what is there at once is kept.
        let collected = report.collect(&archive, vec![first, never], Instant::now());
        let outcome = collected.await.unwrap();
        assert!(outcome.is_over_time && outcome.told().contains("--timeout"));
        let path = archive.finish().await.unwrap();
        assert_eq!(
            archive::tests::read(&path)["bug-report/a.txt"],
            "password: kept"
        );
    }
}
