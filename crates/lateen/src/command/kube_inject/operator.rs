//! An IstioOperator file, by what an installation of it has in its ConfigMaps.

use std::path::Path;

use anyhow::{Context, bail};
use lateen_install::{Installation, Layers, manifests};

/// The texts of the ConfigMaps.
pub(super) struct Operator {
    pub(super) config: String,
    pub(super) values: String,
    pub(super) mesh: String,
}

impl Operator {
    /// Reads the file.
    ///
    /// # Errors
    /// What it asks for and there is not, with the place; and a file without a control plane, which
    /// injects nothing.
    pub(super) fn read(path: &Path, revision: Option<&str>) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = super::read(path)?;
        Self::of(name, text, revision)
    }

    fn of(name: String, text: String, revision: Option<&str>) -> anyhow::Result<Self> {
        let installation = Installation::of(&Layers {
            files: vec![(name.clone(), text)],
            revision: revision.map(str::to_owned),
            ..Layers::default()
        })?;
        for warning in installation.warnings() {
            eprintln!("Warning: {warning}");
        }
        let objects = manifests(&installation).with_context(|| name.clone())?;
        let text = |map: &str, key: &str| {
            let mut maps = objects.iter();
            let found = maps.find_map(|object| {
                let own = object["metadata"]["name"].as_str()?;
                // A revision's name follows.
                let is_it =
                    own == map || own.strip_prefix(map).is_some_and(|of| of.starts_with('-'));
                let is_map = is_it && object["kind"] == "ConfigMap";
                is_map.then(|| object["data"][key].as_str()).flatten()
            });
            found.map(str::to_owned)
        };
        let injector = "istio-sidecar-injector";
        match (text(injector, "config"), text(injector, "values")) {
            (Some(config), Some(values)) => Ok(Operator {
                config,
                values,
                mesh: text("istio", "mesh").unwrap_or_default(),
            }),
            _ => bail!(
                "{name}: an installation of it has no control plane, and so nothing that injects"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn of(spec: &str) -> anyhow::Result<Operator> {
        let head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: ";
        Operator::of("f.yaml".to_owned(), format!("{head}{spec}\n"), None)
    }

    #[test]
    fn an_operators_file_is_what_its_installation_would_be() {
        let spec =
            "{revision: canary, meshConfig: {trustDomain: td}, values: {global: {network: n1}}}";
        let operator = of(spec).expect("an installation");
        let values: Value = serde_json::from_str(&operator.values).expect("JSON");
        assert_eq!(values["global"]["network"], "n1");
        assert!(
            operator.mesh.contains("trustDomain: td"),
            "{}",
            operator.mesh
        );
        assert!(operator.config.contains("templates"), "{}", operator.config);
    }

    #[test]
    fn an_installation_without_a_control_plane_injects_nothing() {
        let error = of("{profile: empty}").err().expect("refused").to_string();
        assert!(
            error.starts_with("f.yaml: ") && error.contains("no control plane"),
            "{error}"
        );
    }
}
