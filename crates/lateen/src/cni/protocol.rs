//! What a container runtime asks of a plugin, and how it is answered.
//!
//! Source: the Container Network Interface specification, 0.3.0 to 1.0.0: variables of the environment, the
//! configuration on standard input, a result or an error as JSON on standard output.

use std::{ffi::OsString, path::PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

/// Versions that are spoken. Results of all of them are passed on as they come.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];
/// What an error says whose question did not say a version.
const NEWEST: &str = "1.0.0";

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) command: Command,
    pub(super) config: Config,
    /// The pod's network.
    pub(super) network: Option<PathBuf>,
    /// The pod, where the runtime is one of Kubernetes.
    pub(super) pod: Option<PodName>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Version,
}

/// The plugin's configuration, as whoever installed it wrote it and the runtime completed it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    #[serde(rename = "cniVersion")]
    version: String,
    pub(super) kubernetes: Kubernetes,
    /// The result of the plugin before this one.
    #[serde(rename = "prevResult")]
    previous: Option<Value>,
}

/// How pods are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kubernetes {
    pub(super) kubeconfig: PathBuf,
    /// Namespaces whose pods are left alone.
    pub(super) exclude_namespaces: Vec<String>,
}

/// Which pod it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodName {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Runtimes before Kubernetes 1.22 do not say it.
    pub(super) uid: Option<String>,
}

/// An error, with its number in the specification; from 100 on they are the plugin's own.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("version {0:?} of the plugin interface is not supported; these are: {known}", known = VERSIONS.join(", "))]
    Version(String),
    #[error("{name} {why}")]
    Environment { name: &'static str, why: String },
    #[error("the configuration on standard input cannot be read: {0}")]
    Config(String),
    #[error("pod {namespace}/{name} cannot be asked for: {why}")]
    Pod {
        namespace: String,
        name: String,
        why: String,
    },
    #[error("traffic of pod {namespace}/{name} is not captured: {why}")]
    Capture {
        namespace: String,
        name: String,
        why: String,
    },
}

impl Failure {
    fn code(&self) -> u32 {
        match self {
            Failure::Version(_) => 1,
            Failure::Environment { .. } => 4,
            Failure::Config(_) => 6,
            // Try again later.
            Failure::Pod { .. } => 11,
            Failure::Capture { .. } => 100,
        }
    }
}

impl Question {
    /// Reads it.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        input: &str,
    ) -> Result<Self, Failure> {
        let text = |name: &'static str| {
            let value = variable(name).unwrap_or_default();
            value.into_string().map_err(|_| Failure::Environment {
                name,
                why: "is no text".to_owned(),
            })
        };
        let command = match text("CNI_COMMAND")?.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "VERSION" => Command::Version,
            other => {
                let why = format!(
                    "is {other:?}; a container runtime sets it to ADD, DEL, CHECK or VERSION"
                );
                let name = "CNI_COMMAND";
                return Err(Failure::Environment { name, why });
            }
        };
        let config: Config =
            serde_json::from_str(input).map_err(|error| Failure::Config(error.to_string()))?;
        if command != Command::Version && !VERSIONS.contains(&config.version.as_str()) {
            return Err(Failure::Version(config.version));
        }
        Ok(Self {
            command,
            config,
            network: variable("CNI_NETNS")
                .filter(|it| !it.is_empty())
                .map(PathBuf::from),
            pod: PodName::read(&text("CNI_ARGS")?),
        })
    }

    /// What the plugin before this one said, which this one does not change.
    pub(super) fn result(&self) -> Value {
        let mut result = self.config.previous.clone().unwrap_or_else(|| json!({}));
        result["cniVersion"] = json!(self.config.version);
        result
    }

    /// Which versions are spoken.
    pub(super) fn versions(&self) -> Value {
        let asked = Some(self.config.version.as_str()).filter(|version| !version.is_empty());
        json!({"cniVersion": asked.unwrap_or(NEWEST), "supportedVersions": VERSIONS})
    }
}

/// An error as the runtime reads it, in the version of what it asked, if that can be read.
pub(super) fn error(failure: &Failure, input: &str) -> Value {
    let config: Config = serde_json::from_str(input).unwrap_or_default();
    let version = Some(config.version.as_str()).filter(|it| VERSIONS.contains(it));
    json!({
        "cniVersion": version.unwrap_or(NEWEST),
        "code": failure.code(),
        "msg": format!("istio-cni: {failure}"),
    })
}

impl PodName {
    /// Of `K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;…`.
    fn read(args: &str) -> Option<Self> {
        let all = args.split(';').filter_map(|pair| pair.split_once('='));
        let find = |wanted: &str| {
            let mut all = all.clone();
            let found = all.find(|(key, value)| *key == wanted && !value.is_empty());
            found.map(|(_, value)| value.to_owned())
        };
        Some(Self {
            namespace: find("K8S_POD_NAMESPACE")?,
            name: find("K8S_POD_NAME")?,
            uid: find("K8S_POD_UID"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], input: &str) -> Result<Question, Failure> {
        let find = |name: &str| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Question::read(find, input)
    }

    #[test]
    fn questions_are_read() {
        let input = r#"{"cniVersion": "0.4.0", "name": "n", "type": "istio-cni", "other": 1,
            "kubernetes": {"kubeconfig": "/k", "exclude_namespaces": ["a"]},
            "prevResult": {"cniVersion": "0.4.0", "ips": [{"address": "10.0.0.2/24", "version": "4"}]}}"#;
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_NETNS", "/var/run/netns/x"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_UID=",
            ),
        ];
        let question = read(&variables, input).expect("a question");
        assert_eq!(question.command, Command::Add);
        assert_eq!(question.network, Some("/var/run/netns/x".into()));
        let pod = question.pod.clone().expect("a pod");
        assert_eq!((&*pod.namespace, &*pod.name, pod.uid), ("ns", "a", None));
        assert_eq!(question.config.kubernetes.exclude_namespaces, ["a"]);
        assert_eq!(question.result()["ips"][0]["address"], "10.0.0.2/24");
        // As a network by itself, there is no plugin before it.
        let alone = read(&variables[..1], r#"{"cniVersion": "0.3.1"}"#).expect("a question");
        assert_eq!(alone.result(), json!({"cniVersion": "0.3.1"}));
        assert_eq!(alone.pod, None);
    }

    #[test]
    fn versions_are_told_and_held() {
        let question = read(&[("CNI_COMMAND", "VERSION")], r#"{"cniVersion": "1.1.0"}"#);
        let told = question.expect("a question").versions();
        assert_eq!(told["cniVersion"], "1.1.0");
        assert_eq!(told["supportedVersions"], json!(VERSIONS));
        for version in VERSIONS {
            let input = json!({"cniVersion": version}).to_string();
            assert!(read(&[("CNI_COMMAND", "DEL")], &input).is_ok(), "{version}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_an_error_with_its_number() {
        for (command, input, code, words) in [
            ("ADD", r#"{"cniVersion": "2.0.0"}"#, 1, "\"2.0.0\""),
            ("ADD", "{}", 1, "\"\""),
            (
                "GC",
                r#"{"cniVersion": "1.0.0"}"#,
                4,
                "CNI_COMMAND is \"GC\"",
            ),
            ("", "{}", 4, "a container runtime sets it"),
            ("ADD", "{", 6, "standard input"),
        ] {
            let failure = read(&[("CNI_COMMAND", command)], input).expect_err(input);
            let told = error(&failure, input);
            assert_eq!(told["code"], code, "{told}");
            assert_eq!(told["cniVersion"], "1.0.0");
            assert!(
                told["msg"].as_str().is_some_and(|msg| msg.contains(words)),
                "{told}"
            );
        }
    }
}
