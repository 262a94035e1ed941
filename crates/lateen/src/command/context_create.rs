//! `lateen context-create`: a context for an API server without users, as `istioctl` 1.0 wrote it for
//! servers outside of Kubernetes.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{cli::Global, output};

/// Add a context for an API server without users to a kubeconfig, and make it the current one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen context-create --api-server http://127.0.0.1:8080\n  lateen context-create --api-server http://127.0.0.1:8080 --context lab -c lab.yaml"
)]
pub(crate) struct ContextCreate {
    /// Where the API server is.
    #[arg(long = "api-server", value_name = "URL", value_parser = url)]
    api_server: String,
}

/// What the context is called where nobody says it.
const NAME: &str = "istio";

fn url(text: &str) -> Result<String, String> {
    let uri: Result<hyper::Uri, _> = text.parse();
    let fits = uri.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    match fits {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(format!("{text:?} is no URL; write http://HOST:PORT")),
    }
}

impl ContextCreate {
    pub(crate) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let name = global.context.as_deref().unwrap_or(NAME);
        let path = kubeconfig(global)?;
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => serde_yaml_ng::from_str(&text)
                .with_context(|| format!("{} is no kubeconfig", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let after = with_context(before, name, &self.api_server)
            .with_context(|| path.display().to_string())?;
        write(&path, &serde_yaml_ng::to_string(&after)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        output::line(format_args!(
            "Context {name} of {} is for {} now, and is the current one",
            path.display(),
            self.api_server
        ));
        Ok(())
    }
}

/// The file that is written: what the flag says, or the first of `$KUBECONFIG`, or the usual one.
fn kubeconfig(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(path) = &global.kubeconfig {
        return Ok(path.clone());
    }
    if let Some(paths) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&paths).next()
    {
        return Ok(first);
    }
    let home = std::env::home_dir().context("there is no home directory; name a file with -c")?;
    Ok(home.join(".kube/config"))
}

/// The kubeconfig with a cluster and a context of a name. Others stay as they are.
fn with_context(before: Value, name: &str, server: &str) -> anyhow::Result<Value> {
    let mut config = match before {
        Value::Null => json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}),
        Value::Object(_) => before,
        _ => bail!("it is no kubeconfig: it has no fields"),
    };
    put(
        &mut config,
        "clusters",
        name,
        "cluster",
        &json!({"server": server}),
    )?;
    let context = json!({"cluster": name, "user": ""});
    put(&mut config, "contexts", name, "context", &context)?;
    config["current-context"] = name.into();
    Ok(config)
}

/// One more in a list of named things. What has the name already must be the same.
fn put(
    config: &mut Value,
    list: &str,
    name: &str,
    what: &str,
    value: &Value,
) -> anyhow::Result<()> {
    if config[list].is_null() {
        config[list] = json!([]);
    }
    let Some(all) = config[list].as_array_mut() else {
        bail!("it is no kubeconfig: {list} is no list");
    };
    match all.iter().find(|one| one["name"] == name) {
        None => all.push(json!({"name": name, what: value})),
        Some(one) if one[what] == *value => {}
        Some(_) => bail!(
            "it has another {what} of the name {name} already; give this one a name with --context"
        ),
    }
    Ok(())
}

/// A kubeconfig may hold keys of other clusters: nobody else is to read it, and it is there as a whole.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // The reason is told; this is only what is left of it.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_added_and_others_stay() {
        let server = "http://127.0.0.1:8080";
        let made = with_context(Value::Null, "istio", server).expect("a kubeconfig");
        let text = serde_yaml_ng::to_string(&made).expect("YAML");
        // The Kubernetes client itself must take it.
        let read = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        assert_eq!(read.current_context.as_deref(), Some("istio"));
        let again = with_context(made.clone(), "istio", server).expect("the same");
        assert_eq!(again, made);
        let other = with_context(made.clone(), "lab", "https://lab:1").expect("one more");
        assert_eq!(other["clusters"][0], made["clusters"][0]);
        assert_eq!(other["current-context"], "lab");
        let error = with_context(made, "istio", "http://other:1").expect_err("refused");
        assert!(error.to_string().contains("--context"), "{error}");
        assert!(with_context(json!([1]), "istio", server).is_err());
    }

    #[test]
    fn servers_are_urls() {
        for (text, expect) in [
            ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080")),
            ("https://a", Some("https://a")),
            ("127.0.0.1:8080", None),
            ("ftp://a", None),
            ("", None),
        ] {
            assert_eq!(url(text).ok().as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn nobody_else_reads_what_is_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/config");
        write(&path, "a: b\n").expect("written");
        write(&path, "c: d\n").expect("written again");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "c: d\n");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = std::fs::read_dir(path.parent().expect("a folder")).expect("read");
        assert_eq!(files.count(), 1);
    }
}
