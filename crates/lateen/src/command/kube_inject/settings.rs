//! Settings that `kube-inject` takes as flags, as `istioctl` 1.0 had them.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

/// Settings of their own, as `istioctl` 1.0 took them; they count over those of files and ConfigMaps.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// Registry and folder of the images.
    #[arg(long)]
    hub: Option<String>,
    /// Version of the images.
    #[arg(long)]
    tag: Option<String>,
    /// When images are pulled.
    #[arg(long = "imagePullPolicy", value_name = "POLICY")]
    pull_policy: Option<String>,
    /// Destinations whose connections are taken.
    #[arg(long = "includeIPRanges", value_name = "CIDRS")]
    include_ip_ranges: Option<String>,
    /// Destinations whose connections are left alone.
    #[arg(long = "excludeIPRanges", value_name = "CIDRS")]
    exclude_ip_ranges: Option<String>,
    /// Ports of the pod whose connections are taken.
    #[arg(long = "includeInboundPorts", value_name = "PORTS")]
    include_inbound_ports: Option<String>,
    /// Ports of the pod whose connections are left alone.
    #[arg(long = "excludeInboundPorts", value_name = "PORTS")]
    exclude_inbound_ports: Option<String>,
    /// The agent's port; 0 is none.
    #[arg(long = "statusPort", value_name = "PORT")]
    status_port: Option<u16>,
    /// How long after its start the proxy is first asked whether it is ready.
    #[arg(long = "readinessInitialDelaySeconds", value_name = "SECONDS")]
    readiness_initial_delay: Option<u32>,
    /// How often it is asked.
    #[arg(long = "readinessPeriodSeconds", value_name = "SECONDS")]
    readiness_period: Option<u32>,
    /// How often it may fail before it counts as not ready.
    #[arg(long = "readinessFailureThreshold", value_name = "TIMES")]
    readiness_failures: Option<u32>,
    /// Not supported: the proxy's user is 1337.
    #[arg(long = "sidecarProxyUID", value_name = "UID", hide = true)]
    proxy_uid: Option<u32>,
    /// Not supported: the status says the version itself.
    #[arg(long = "setVersionString", value_name = "TEXT", hide = true)]
    version_string: Option<String>,
    /// Not supported: the proxy's level is that of the annotation `sidecar.istio.io/logLevel`.
    #[arg(long, value_name = "LEVEL", hide = true)]
    verbosity: Option<u32>,
    /// Not supported: nothing of the node is changed for core dumps.
    #[arg(long = "coreDump", hide = true)]
    core_dump: bool,
    /// Not supported: there are no images for debugging.
    #[arg(long, hide = true)]
    debug: bool,
}

impl Settings {
    /// Flags of 1.0 that would ask for what there is not.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        const UID: u32 = 1337;
        let refused = [
            (
                self.proxy_uid.is_some_and(|uid| uid != UID),
                "--sidecarProxyUID",
                "the proxy's user is 1337, which capture lets through",
            ),
            (
                self.version_string.is_some(),
                "--setVersionString",
                "the pod's status says its revision",
            ),
            (
                self.verbosity.is_some(),
                "--verbosity",
                "levels have names; annotate the pod with sidecar.istio.io/logLevel",
            ),
            (
                self.core_dump,
                "--coreDump",
                "no container changes the node's kernel; set kernel.core_pattern there",
            ),
            (
                self.debug,
                "--debug",
                "there are no images for debugging; name one with the annotation sidecar.istio.io/proxyImage",
            ),
        ];
        match refused.iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, why)) => bail!("{flag} is not supported: {why}"),
            None => Ok(()),
        }
    }

    /// The text of the settings with these over it.
    pub(super) fn over(&self, values: &str) -> Result<String, serde_json::Error> {
        let mut all: Value = match values.trim() {
            "" => Value::Object(serde_json::Map::new()),
            text => serde_json::from_str(text)?,
        };
        let own = [
            ("/global/hub", self.hub.clone().map(Value::from)),
            ("/global/tag", self.tag.clone().map(Value::from)),
            (
                "/global/imagePullPolicy",
                self.pull_policy.clone().map(Value::from),
            ),
            (
                "/global/proxy/includeIPRanges",
                self.include_ip_ranges.clone().map(Value::from),
            ),
            (
                "/global/proxy/excludeIPRanges",
                self.exclude_ip_ranges.clone().map(Value::from),
            ),
            (
                "/global/proxy/includeInboundPorts",
                self.include_inbound_ports.clone().map(Value::from),
            ),
            (
                "/global/proxy/excludeInboundPorts",
                self.exclude_inbound_ports.clone().map(Value::from),
            ),
            (
                "/global/proxy/statusPort",
                self.status_port.map(Value::from),
            ),
            (
                "/global/proxy/readinessInitialDelaySeconds",
                self.readiness_initial_delay.map(Value::from),
            ),
            (
                "/global/proxy/readinessPeriodSeconds",
                self.readiness_period.map(Value::from),
            ),
            (
                "/global/proxy/readinessFailureThreshold",
                self.readiness_failures.map(Value::from),
            ),
        ];
        for (path, value) in own {
            if let Some(value) = value {
                put(&mut all, path, value);
            }
        }
        // An image that was a whole reference says registry and version itself.
        if self.hub.is_some() || self.tag.is_some() {
            put(&mut all, "/global/proxy/image", "proxyv2".into());
        }
        Ok(all.to_string())
    }
}

fn put(all: &mut Value, path: &str, value: Value) {
    let mut at = all;
    for part in path.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(flags: &[&str]) -> Settings {
        let all = ["kube-inject"].iter().chain(flags);
        Cli::try_parse_from(all).expect("flags").settings
    }

    #[test]
    fn flags_count_over_settings() {
        let flags = [
            "--hub=h",
            "--tag=1",
            "--includeIPRanges=10.0.0.0/8",
            "--readinessPeriodSeconds=7",
        ];
        let values = r#"{"global": {"proxy": {"image": "x/y:z", "logLevel": "debug"}}}"#;
        let values = settings(&flags).over(values).expect("JSON");
        let values: Value = serde_json::from_str(&values).expect("JSON");
        assert_eq!(values["global"]["hub"], "h");
        assert_eq!(
            values["global"]["proxy"],
            json!({"image": "proxyv2", "logLevel": "debug", "includeIPRanges": "10.0.0.0/8",
                "readinessPeriodSeconds": 7})
        );
    }

    #[test]
    fn flags_that_ask_for_what_there_is_not_are_refused() {
        for (flags, why) in [
            (&["--sidecarProxyUID=1337"][..], ""),
            (&["--sidecarProxyUID=1000"], "1337"),
            (&["--verbosity=2"], "logLevel"),
            (&["--setVersionString=x"], "revision"),
            (&["--coreDump"], "kernel"),
            (&["--debug"], "proxyImage"),
        ] {
            match settings(flags).check() {
                Ok(()) => assert_eq!(why, "", "{flags:?}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!why.is_empty() && told.contains(why), "{told}");
                }
            }
        }
    }
}
