//! `lateen explain --recorded`: the requests of an access log instead of one request.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use lateen_explain::{Group, Platform, Recording, Replayer, changes, decisions};
use lateen_registry::Documents;
use serde_json::json;

use super::{DOMAIN, difference};
use crate::cli::Global;
use crate::client;
use crate::output::{self, Format};

/// The container of every proxy.
const PROXY: &str = "istio-proxy";

/// Reads a log: a file, or standard input for `-`.
pub(super) fn of_file(path: &Path) -> anyhow::Result<Recording> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    }
    Ok(Recording::read(&text))
}

/// The log of a pod's proxy, by the API server.
pub(super) async fn of_pod(name: &str, global: &Global) -> anyhow::Result<Recording> {
    let client = client::connect(global).await?;
    let (pod, namespace) = client::find_pod(&client, name, global).await?;
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let params = LogParams {
        container: Some(PROXY.to_owned()),
        ..LogParams::default()
    };
    let log = pods.logs(&pod, &params).await;
    let log =
        log.with_context(|| format!("cannot read the log of {PROXY} in {pod}.{namespace}"))?;
    Ok(Recording::read(&log))
}

/// What becomes of the requests at the proxy of a workload, or, with a change, which of them would be
/// decided otherwise.
pub(super) fn print(
    recording: &Recording,
    from: &str,
    texts: &[Documents],
    change: Option<Documents>,
    format: Format,
) -> anyhow::Result<()> {
    let platform = |changes: &[Documents]| {
        let platform = Platform::changed(texts, changes, DOMAIN);
        platform.map_err(|faults| anyhow!("{}", faults.join("\n")))
    };
    let caller = |platform: &Platform| {
        let caller = platform.caller(from);
        caller.with_context(|| format!("no pod is called {from:?}"))
    };
    let before = platform(&[])?;
    let own = caller(&before)?;
    let at = Replayer::new(&before, &own)?;
    let mut notes = recording.notes();
    notes.extend(before.all_notes());
    let is_compared = change.is_some();
    let groups = match change {
        None => decisions(recording, &at),
        Some(change) => {
            let after = platform(&[change])?;
            let own = caller(&after)?;
            let new = after.all_notes().into_iter();
            let new: Vec<_> = new.filter(|note| !notes.contains(note)).collect();
            notes.extend(new);
            changes(recording, &at, &Replayer::new(&after, &own)?)
        }
    };
    let requests = recording.n_requests();
    match format {
        Format::Short => {
            output::print(in_words(requests, &groups, is_compared, &notes));
            Ok(())
        }
        format => {
            let what = if is_compared { "changes" } else { "decisions" };
            let all = json!({ "requests": requests, what: groups, "notes": notes });
            output::structured(&all, format)
        }
    }
}

fn in_words(requests: u64, groups: &[Group], is_compared: bool, notes: &[String]) -> String {
    let n: u64 = groups.iter().map(|group| group.requests).sum();
    let mut text = match (is_compared, n) {
        (false, _) => format!("{requests} requests\n"),
        (true, 0) => format!("nothing changes for {requests} requests\n"),
        (true, n) => format!("{n} of {requests} requests would be decided otherwise\n"),
    };
    for group in groups {
        let more = if group.requests > group.examples.len() as u64 {
            ", …"
        } else {
            ""
        };
        let examples = group.examples.join(", ");
        text += &format!("\n{} requests: {examples}{more}\n", group.requests);
        let before = group.before.to_string();
        text += &match &group.after {
            None => before,
            Some(after) => difference(&before, &after.to_string()),
        };
    }
    text += "\n";
    for note in notes {
        text += &format!("note        {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use lateen_explain::{Explanation, Outcome};

    use super::*;

    #[test]
    fn groups_are_told_with_their_numbers() {
        let told = |status| Explanation {
            outcome: Outcome::Answer { status },
            ..Explanation::default()
        };
        let group = Group {
            requests: 5,
            examples: vec!["GET a/".to_owned(), "GET a/b".to_owned()],
            before: told(200),
            after: Some(told(418)),
        };
        let notes = ["n".to_owned()];
        let text = in_words(7, &[group], true, &notes);
        assert_eq!(
            text,
            "5 of 7 requests would be decided otherwise\n\n5 requests: GET a/, GET a/b, …\n\
             - outcome     200, by the proxy itself\n+ outcome     418, by the proxy itself\n\n\
             note        n\n"
        );
        let text = in_words(7, &[], true, &[]);
        assert_eq!(text, "nothing changes for 7 requests\n\n");
    }
}
