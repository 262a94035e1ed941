//! The files themselves.

use std::{
    collections::BTreeMap, fs, io::Write as _, net::IpAddr, os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context;
use lateen_api::{Object, labels, networking::WorkloadGroup};
use serde_json::{Value, json};

/// The control plane's port for configuration and certificates.
const XDS: u16 = 15012;

/// A machine in the making.
pub(super) struct Machine<'a> {
    pub(super) group: &'a Object<WorkloadGroup>,
    pub(super) account: &'a str,
    pub(super) cluster_id: &'a str,
    /// The control plane's name.
    pub(super) istiod: &'a str,
    pub(super) address: Option<IpAddr>,
    pub(super) autoregister: bool,
    pub(super) capture_dns: bool,
}

impl Machine<'_> {
    /// Those of the group, of which those of its `metadata` are stronger than the template's.
    fn labels(&self) -> BTreeMap<String, String> {
        let spec = &self.group.spec;
        let mut labels = spec.template.clone().unwrap_or_default().labels;
        let own = spec.metadata.clone().unwrap_or_default().labels;
        labels.extend(own);
        labels
    }

    fn network(&self) -> String {
        let template = self.group.spec.template.as_ref();
        template.map(|of| of.network.clone()).unwrap_or_default()
    }
}

/// `cluster.env`: what a shell reads before the agent is started.
pub(super) fn env(machine: &Machine<'_>, settings: &str) -> anyhow::Result<String> {
    let settings = parsed(settings)?;
    let meta = &machine.group.meta;
    let labels = machine.labels();
    let label = |names: [&str; 3]| {
        let mut names = names.into_iter();
        names.find_map(|name| labels.get(name).cloned())
    };
    let service = label([labels::CANONICAL_NAME, labels::APP_NAME, labels::APP]);
    let version = label([
        labels::CANONICAL_REVISION,
        labels::APP_VERSION,
        labels::VERSION,
    ]);
    let trust = settings["trustDomain"].as_str().unwrap_or("cluster.local");
    let mut all: BTreeMap<&str, String> = BTreeMap::from([
        (
            "CANONICAL_SERVICE",
            service.unwrap_or_else(|| meta.name.clone()),
        ),
        (
            "CANONICAL_REVISION",
            version.unwrap_or_else(|| "latest".to_owned()),
        ),
        ("CA_ADDR", format!("{}:{XDS}", machine.istiod)),
        ("ISTIOD_SAN", machine.istiod.to_owned()),
        ("ISTIO_INBOUND_PORTS", "*".to_owned()),
        (
            "ISTIO_LOCAL_EXCLUDE_PORTS",
            "22,15090,15021,15020".to_owned(),
        ),
        ("ISTIO_METAJSON_LABELS", serde_json::to_string(&labels)?),
        ("ISTIO_META_CLUSTER_ID", machine.cluster_id.to_owned()),
        ("ISTIO_META_DNS_CAPTURE", machine.capture_dns.to_string()),
        ("ISTIO_META_NETWORK", machine.network()),
        ("ISTIO_META_WORKLOAD_NAME", meta.name.clone()),
        ("ISTIO_NAMESPACE", meta.namespace.clone()),
        ("ISTIO_SERVICE", format!("{}.{}", meta.name, meta.namespace)),
        ("ISTIO_SERVICE_CIDR", "*".to_owned()),
        // Each machine of a group has its own name.
        ("POD_NAME", String::new()),
        ("POD_NAMESPACE", meta.namespace.clone()),
        ("SERVICE_ACCOUNT", machine.account.to_owned()),
        ("TRUST_DOMAIN", trust.to_owned()),
    ]);
    if machine.autoregister {
        all.insert("ISTIO_META_AUTO_REGISTER_GROUP", meta.name.clone());
    }
    if let Some(address) = machine.address {
        all.insert("INSTANCE_IP", address.to_string());
        all.insert("ISTIO_SVC_IP", address.to_string());
    }
    all.retain(|name, value| *name == "POD_NAME" || !value.is_empty());
    let lines = all.into_iter().map(|(name, value)| match name {
        "POD_NAME" => "POD_NAME=\"${POD_NAME:-$(hostname)}\"\n".to_owned(),
        _ => format!("{name}={}\n", quoted(&value)),
    });
    Ok(lines.collect())
}

/// As a shell takes it for one word.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// `mesh.yaml`: the mesh's settings for proxies, with what is the machine's own.
pub(super) fn mesh(machine: &Machine<'_>, settings: &str) -> anyhow::Result<String> {
    let settings = parsed(settings)?;
    let mut proxy = match &settings["defaultConfig"] {
        Value::Object(fields) => Value::Object(fields.clone()),
        _ => json!({}),
    };
    proxy["discoveryAddress"] = format!("{}:{XDS}", machine.istiod).into();
    if let Some(probe) = &machine.group.spec.probe {
        proxy["readinessProbe"] = without_defaults(serde_json::to_value(probe)?);
    }
    Ok(serde_yaml_ng::to_string(&json!({"defaultConfig": proxy}))?)
}

/// Fields that nobody set say what is so without them.
fn without_defaults(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    let kept = fields.into_iter().filter(|(_, value)| is_set(value));
    Value::Object(
        kept.map(|(name, value)| (name, without_defaults(value)))
            .collect(),
    )
}

fn parsed(settings: &str) -> anyhow::Result<Value> {
    if settings.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_yaml_ng::from_str(settings).context("the mesh's configuration is no YAML")
}

/// Writes files into a folder; what is secret is for the user alone.
pub(super) fn write(folder: &Path, files: &[(&str, String, bool)]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text, is_secret) in files {
        let path = folder.join(name);
        let mode = if *is_secret { 0o600 } else { 0o644 };
        let written = || -> std::io::Result<()> {
            // A file that is there would keep its rights.
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)?;
            file.write_all(text.as_bytes())
        };
        written().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn group() -> Object<WorkloadGroup> {
        let value = json!({
            "metadata": {"name": "legacy", "namespace": "shop"},
            "spec": {
                "metadata": {"labels": {"app": "old's"}},
                "template": {"serviceAccount": "a", "labels": {"app": "weaker", "version": "v2"},
                    "network": "n1"},
                "probe": {"periodSeconds": 5, "httpGet": {"path": "/healthz", "port": 8080}},
            },
        });
        Object::from_value(&value).expect("a group")
    }

    fn machine(group: &Object<WorkloadGroup>) -> Machine<'_> {
        Machine {
            group,
            account: "a",
            cluster_id: "c1",
            istiod: "istiod.istio-system.svc",
            address: Some(IpAddr::from([10, 1, 2, 3])),
            autoregister: true,
            capture_dns: false,
        }
    }

    #[test]
    fn a_shell_reads_the_environment() {
        let group = group();
        let text = env(&machine(&group), "trustDomain: td").expect("text");
        // By a real shell, quotes and all.
        let script = format!(
            "{text}\nprintf '%s|' \"$ISTIO_METAJSON_LABELS\" \"$INSTANCE_IP\" \
             \"$ISTIO_META_AUTO_REGISTER_GROUP\" \"$TRUST_DOMAIN\" \"$ISTIO_META_NETWORK\" \"$POD_NAME\""
        );
        let told = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("POD_NAME", "m1")
            .output()
            .expect("a shell");
        let told = String::from_utf8(told.stdout).expect("text");
        let expect = r#"{"app":"old's","version":"v2"}|10.1.2.3|legacy|td|n1|m1|"#;
        assert_eq!(told, expect);
    }

    #[test]
    fn settings_are_the_meshs_with_the_machines_own() {
        let group = group();
        let settings = "defaultConfig: {concurrency: 3, discoveryAddress: other:15012}";
        let text = mesh(&machine(&group), settings).expect("text");
        let value: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        let expect = json!({"defaultConfig": {
            "concurrency": 3,
            "discoveryAddress": "istiod.istio-system.svc:15012",
            "readinessProbe": {"periodSeconds": 5, "httpGet": {"path": "/healthz", "port": 8080}},
        }});
        assert_eq!(value, expect);
    }

    #[test]
    fn tokens_are_for_the_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made");
        // The second time over files of the first.
        for _ in 0..2 {
            let files = [("t", "x".to_owned(), true), ("m", "y".to_owned(), false)];
            write(&path, &files).expect("written");
            let mode = |name: &str| {
                let meta = fs::metadata(path.join(name)).expect("a file");
                meta.permissions().mode() & 0o777
            };
            assert_eq!((mode("t"), mode("m") & 0o600), (0o600, 0o600));
        }
    }
}
