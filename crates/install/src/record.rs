//! What was installed, written down beside it: whoever looks at the installation later needs no flags
//! to know what there should be. Istio keeps an object of a kind of its own for this, this is a
//! ConfigMap.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    COMPONENT, InstallError, Installation, Layers, OWNER_NAMESPACE, Part,
    installation::DEFAULT_REVISION, labels, parts,
};

/// What [`COMPONENT`] says on a record.
const RECORD: &str = "InstalledState";
/// The key under which a record has the document.
const KEY: &str = "installation";

/// The parts of an installation, and in the first of them the record of all.
///
/// # Errors
/// An overlay that cannot be made.
pub fn recorded_parts(installation: &Installation) -> Result<Vec<Part>, InstallError> {
    let mut parts = parts(installation)?;
    if let Some(first) = parts.first_mut() {
        let is_namespace = |object: &&Value| object["kind"] == "Namespace";
        let behind = first.objects.iter().take_while(is_namespace).count();
        first.objects.insert(behind, record(installation));
    }
    Ok(parts)
}

/// Selects the records of installations with their control plane in a namespace.
pub fn records(namespace: &str) -> String {
    format!(
        "{},{OWNER_NAMESPACE}={namespace},{COMPONENT}={RECORD}",
        labels::owned()
    )
}

/// Whether an object with these labels is a record.
pub fn is_record(labels: &BTreeMap<String, String>) -> bool {
    labels::is_owned(labels) && labels.get(COMPONENT).is_some_and(|it| it == RECORD)
}

/// The installation that a record is of.
///
/// # Errors
/// The ConfigMap is no record, or has what this version does not know.
pub fn of_record(config_map: &Value) -> Result<Installation, InstallError> {
    Installation::of(&Layers {
        files: vec![file_of_record(config_map)],
        ..Layers::default()
    })
}

/// The IstioOperator document that a record has, behind the place that messages name.
pub fn file_of_record(config_map: &Value) -> (String, String) {
    let name = config_map["metadata"]["name"].as_str().unwrap_or_default();
    let text = config_map["data"][KEY].as_str().unwrap_or_default();
    (format!("ConfigMap {name}"), text.to_owned())
}

/// Installs once more what a record says, in words for a shell.
pub fn again(config_map: &Value) -> String {
    let text = |field: &str| config_map["metadata"][field].as_str().unwrap_or_default();
    format!(
        "kubectl get configmap {} -n {} -o jsonpath='{{.data.{KEY}}}' | lateen install -y -f -",
        text("name"),
        text("namespace")
    )
}

fn record(installation: &Installation) -> Value {
    let text = lateen_yaml::to_string(installation.document()).expect("JSON is YAML");
    let mut record = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name(installation), "namespace": installation.namespace()},
        "data": {KEY: text},
    });
    labels::own(&mut record, RECORD, installation);
    record
}

/// Installations are told apart by their revision and by the name of their document.
fn name(installation: &Installation) -> String {
    let mut name = "istio-installed-state".to_owned();
    let revision = Some(installation.revision()).filter(|it| *it != DEFAULT_REVISION);
    for part in [revision, installation.name()].into_iter().flatten() {
        let part = part.to_ascii_lowercase().replace('_', "-");
        name.push('-');
        name.push_str(&part);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{installation::tests::of, profile};

    fn found(parts: &[Part]) -> Vec<&Value> {
        let objects = parts.iter().flat_map(|part| &part.objects);
        let is_record = |object: &&Value| object["metadata"]["labels"][COMPONENT] == RECORD;
        objects.filter(is_record).collect()
    }

    #[test]
    fn a_record_brings_back_every_object() {
        let mut seen = 0;
        for name in profile::NAMES {
            // Some are refused, and some need to know where the control plane is.
            let Ok(installation) = Installation::of_profile(name) else {
                continue;
            };
            let wanted = recorded_parts(&installation).expect("parts");
            let Some(record) = found(&wanted).first().copied() else {
                assert!(wanted.is_empty(), "{name}");
                continue;
            };
            let back = of_record(record).expect("an installation");
            assert_eq!(recorded_parts(&back).expect("parts"), wanted, "{name}");
            seen += 1;
        }
        assert!(seen >= 4, "{seen}");
    }

    /// Also what other readers take for a truth value or a number.
    #[test]
    fn texts_stay_texts() {
        let texts = [
            "values.pilot.env.A=on",
            "meshConfig.defaultConfig.proxyMetadata.B=yes",
            "values.pilot.env.C=1_000",
        ];
        let installation = of("", &texts);
        let parts = recorded_parts(&installation).expect("parts");
        let back = of_record(found(&parts)[0]).expect("an installation");
        assert_eq!(back.document(), installation.document());
    }

    #[test]
    fn it_comes_behind_the_namespace_and_is_the_installations_own() {
        let file = "metadata: {name: East_West}\nspec: {revision: canary, namespace: mesh}\n";
        let installation = of(file, &["values.pilot.autoscaleMin=3"]);
        let parts = recorded_parts(&installation).expect("parts");
        let [record] = found(&parts)[..] else {
            panic!("one record")
        };
        assert_eq!(&parts[0].objects[1], record);
        assert_eq!(
            record["metadata"]["name"],
            "istio-installed-state-canary-east-west"
        );
        assert_eq!(record["metadata"]["namespace"], "mesh");
        let labels = &record["metadata"]["labels"];
        assert_eq!(labels[crate::OWNER], "East_West");
        assert_eq!(labels[crate::REVISION], "canary");
        let back = of_record(record).expect("an installation");
        assert_eq!(back.document(), installation.document());
        assert!(again(record).contains("istio-installed-state-canary-east-west -n mesh"));
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_name() {
        let other = json!({"metadata": {"name": "x"}, "data": {}});
        let said = of_record(&other).expect_err("refused").to_string();
        assert!(said.starts_with("ConfigMap x: "), "{said}");
    }
}
