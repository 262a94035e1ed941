//! `PROXY_CONFIG`: the mesh's default proxy configuration with the pod's own on top, as YAML.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::bad;
use crate::Error;
use crate::health::Readiness;

/// The fields of Istio's ProxyConfig that the agent acts upon. The others travel to the control
/// plane in the node's metadata, from [`ProxyConfig::raw`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ProxyConfig {
    pub(crate) discovery_address: Option<String>,
    pub(crate) service_cluster: Option<String>,
    pub(crate) config_path: Option<String>,
    pub(crate) binary_path: Option<String>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) status_port: Option<u16>,
    pub(crate) proxy_admin_port: Option<u16>,
    #[serde(deserialize_with = "optional_duration")]
    pub(crate) termination_drain_duration: Option<Duration>,
    pub(crate) proxy_metadata: BTreeMap<String, String>,
    readiness_probe: Option<Value>,
    /// The probe of a WorkloadGroup, which proxy configurations of its workloads have.
    #[serde(skip)]
    pub(crate) readiness: Option<Readiness>,
    #[serde(skip)]
    pub(crate) raw: Map<String, Value>,
}

/// The mesh's settings, where nobody has made `PROXY_CONFIG` of them: on machines of no platform.
const MESH: &str = "etc/istio/config/mesh";
/// The variable with the workload's own.
const OWN: &str = "PROXY_CONFIG";

impl ProxyConfig {
    /// `own` over the `defaultConfig` of the mesh's settings in their file below `root`, if there is
    /// one. What is wrong with either is said of it alone.
    pub(crate) fn read(root: &Path, own: &str) -> Result<Self, Error> {
        let file = root.join(MESH);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::parse(own),
            Err(e) => return Err(Error::file(file)(e)),
        };
        let own = Self::parse(own)?;
        let mesh: Value = serde_saphyr::from_str(&text).map_err(|e| bad(MESH, e))?;
        let defaults = mesh["defaultConfig"].clone();
        if defaults.is_null() {
            return Ok(own);
        }
        let of_mesh =
            Self::of(defaults).map_err(|why| bad(MESH, format!("defaultConfig: {why}")))?;
        let mut fields = of_mesh.raw;
        lay(&mut fields, own.raw);
        Self::of(Value::Object(fields)).map_err(|why| bad(OWN, why))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: Value = serde_saphyr::from_str(text).map_err(|e| bad(OWN, e))?;
        Self::of(raw).map_err(|why| bad(OWN, why))
    }

    fn of(raw: Value) -> Result<Self, String> {
        let Value::Object(raw) = raw else {
            return Err("it is no map of fields".to_owned());
        };
        let config = serde_json::from_value(Value::Object(raw.clone()));
        let config: Self = config.map_err(|e| e.to_string())?;
        let probe = config.readiness_probe.as_ref();
        let probe = probe.filter(|probe| !probe.is_null()).map(Readiness::of);
        let readiness = probe.transpose();
        Ok(Self {
            readiness: readiness.map_err(|why| format!("readinessProbe: {why}"))?,
            raw,
            ..config
        })
    }
}

/// The maps that are merged by their keys, as Istio's agent does. Of the other fields the more special
/// one counts as a whole: two ways of one probe would be none.
const MAPS: [&str; 2] = ["proxyMetadata", "proxyHeaders"];

fn lay(fields: &mut Map<String, Value>, over: Map<String, Value>) {
    for (name, value) in over {
        match (fields.get_mut(&name), value) {
            (Some(Value::Object(below)), Value::Object(own)) if MAPS.contains(&&*name) => {
                below.extend(own);
            }
            (_, value) => {
                fields.insert(name, value);
            }
        }
    }
}

fn optional_duration<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else {
        return Ok(None);
    };
    let error = || serde::de::Error::custom(format!("{text:?} is no duration"));
    go_duration(&text).map(Some).ok_or_else(error)
}

/// Go's notation: `1h30m`, `5s`, `100ms`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += value * unit;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root, and where the mesh's settings are below it.
    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join(MESH);
        let parent = file.parent().expect("it is in a directory");
        std::fs::create_dir_all(parent).expect("writable");
        (folder, file)
    }

    #[test]
    fn durations_are_written_as_in_go() {
        let seconds = |text| go_duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("5s"), Some(5.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("100ms"), Some(0.1));
        assert_eq!(seconds("0"), Some(0.0));
        for text in ["", "5", "s", "5 s", "5d", "-1s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_meshs_settings_are_below_the_workloads_own() {
        let (folder, file) = file();
        let own = "concurrency: 2\n";
        let read = || ProxyConfig::read(folder.path(), own).expect("valid");
        assert_eq!(read().concurrency, Some(2), "there is no file");
        let mesh = "defaultConfig:\n  concurrency: 1\n  discoveryAddress: x:1\n  \
                    readinessProbe: {tcpSocket: {port: 1}}\n";
        std::fs::write(&file, mesh).expect("writable");
        let both = read();
        assert_eq!(both.concurrency, Some(2));
        assert_eq!(both.discovery_address.as_deref(), Some("x:1"));
        assert_eq!(both.raw["readinessProbe"]["tcpSocket"]["port"], 1);
        std::fs::write(&file, "trustDomain: a\n").expect("writable");
        assert_eq!(read().discovery_address, None);
    }

    #[test]
    fn what_is_wrong_is_said_of_where_it_is_written() {
        let (folder, file) = file();
        for (mesh, own, want) in [
            ("[", "", "etc/istio/config/mesh: "),
            (
                "defaultConfig: {concurrency: many}",
                "concurrency: 2",
                "etc/istio/config/mesh: defaultConfig: ",
            ),
            (
                "defaultConfig: {readinessProbe: {}}",
                "concurrency: 2",
                "etc/istio/config/mesh: defaultConfig: readinessProbe: exactly one of ",
            ),
            (
                "defaultConfig: 1",
                "",
                "etc/istio/config/mesh: defaultConfig: ",
            ),
            ("defaultConfig: {}", "concurrency: many", "PROXY_CONFIG: "),
            (
                "defaultConfig: {readinessProbe: {tcpSocket: {port: 1}}}",
                "readinessProbe: {}",
                "PROXY_CONFIG: readinessProbe: exactly one of ",
            ),
            ("defaultConfig: {}", "- a", "PROXY_CONFIG: "),
        ] {
            std::fs::write(&file, mesh).expect("writable");
            let error = ProxyConfig::read(folder.path(), own).expect_err("wrong");
            let error = error.to_string();
            assert!(error.starts_with(want), "{mesh} {own}: {error}");
        }
    }

    #[test]
    fn maps_are_merged_and_probes_are_not() {
        let (folder, file) = file();
        let mesh = "defaultConfig:\n  proxyMetadata: {A: mesh, B: mesh}\n  \
                    readinessProbe: {tcpSocket: {port: 1}}\n";
        std::fs::write(&file, mesh).expect("writable");
        let own = "proxyMetadata: {B: own, C: own}\nreadinessProbe: {httpGet: {port: 2}}\n";
        let both = ProxyConfig::read(folder.path(), own).expect("valid");
        let expected = [("A", "mesh"), ("B", "own"), ("C", "own")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(both.proxy_metadata, BTreeMap::from(expected));
        let probe = serde_json::json!({"httpGet": {"port": 2}});
        assert_eq!(both.readiness_probe, Some(probe));
    }

    #[test]
    fn yaml_and_json_are_both_read() {
        for text in [
            "discoveryAddress: x:1\nterminationDrainDuration: 7s\nproxyMetadata:\n  A: \"b\"\n",
            r#"{"discoveryAddress":"x:1","terminationDrainDuration":"7s","proxyMetadata":{"A":"b"}}"#,
        ] {
            let config = ProxyConfig::parse(text).expect("valid");
            assert_eq!(config.discovery_address.as_deref(), Some("x:1"));
            assert_eq!(
                config.termination_drain_duration,
                Some(Duration::from_secs(7))
            );
            assert_eq!(config.proxy_metadata["A"], "b");
            assert_eq!(config.raw["discoveryAddress"], "x:1");
        }
        ProxyConfig::parse("concurrency: many").expect_err("not a number");
    }
}
