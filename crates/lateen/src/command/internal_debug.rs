//! `lateen x internal-debug`: the debug pages of the control plane.

use anyhow::bail;
use clap::Args;
use lateen_core::ports::CONTROL_PLANE_DEBUG;
use serde_json::Value;

use crate::{cli::Global, client, output};

/// Show a debug page of the control plane.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental internal-debug syncz\n  lateen experimental internal-debug config_dump?proxyID=reviews-v1-77bb.default\n  lateen experimental internal-debug list       Which pages there are\n  lateen experimental internal-debug syncz --all"
)]
pub(crate) struct InternalDebug {
    /// The page, with its parameters; `list` names all.
    #[arg(required = true)]
    page: String,
    /// Ask each replica, and say which said what.
    #[arg(long)]
    all: bool,
}

impl InternalDebug {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let path = path(&self.page)?;
        let client = client::connect(global).await?;
        let namespace = &global.istio_namespace;
        let mut answers = serde_json::Map::new();
        let mut refusals = Vec::new();
        // A proxy is connected to one replica alone, so that another may know nothing of it.
        for pod in client::control_plane_pods(&client, global).await? {
            let asked = client::pod_get(&client, namespace, &pod, CONTROL_PLANE_DEBUG, &path).await;
            match asked {
                Ok(text) if !self.all => {
                    output::line(pretty(&text));
                    return Ok(());
                }
                Ok(text) => {
                    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    answers.insert(pod, value);
                }
                Err(error) => refusals.push(format!("{error:#}")),
            }
        }
        if answers.is_empty() {
            bail!("{}", refusals.join("\n"));
        }
        for refusal in &refusals {
            eprintln!("lateen: {refusal}");
        }
        output::line(serde_json::to_string_pretty(&Value::Object(answers))?);
        Ok(())
    }
}

/// `syncz`, `/debug/syncz` and `debug/syncz` are one.
fn path(page: &str) -> anyhow::Result<String> {
    let page = page.trim_start_matches('/');
    let page = page.strip_prefix("debug/").unwrap_or(page);
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '#' | '\\');
    if page.is_empty() || page.contains("..") || page.contains(odd) {
        bail!("{page:?} is no debug page; `lateen x internal-debug list` names those there are");
    }
    Ok(format!("/debug/{page}"))
}

/// JSON over several lines, and other texts as they are.
fn pretty(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    pretty.unwrap_or_else(|| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_with_or_without_their_folder() {
        for (page, expect) in [
            ("syncz", Some("/debug/syncz")),
            ("/debug/syncz", Some("/debug/syncz")),
            ("edsz?proxyID=a.b", Some("/debug/edsz?proxyID=a.b")),
            ("", None),
            ("../ready", None),
            ("a b", None),
        ] {
            assert_eq!(path(page).ok().as_deref(), expect, "{page:?}");
        }
    }

    #[test]
    fn what_is_no_json_stays() {
        assert_eq!(pretty("{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert_eq!(pretty("ok\n"), "ok");
    }
}
