//! What ConfigMap `istio-sidecar-injector` says: whom to inject, with which templates, and the settings
//! that templates are filled with.

use std::collections::BTreeMap;

use lateen_api::{
    install::{GlobalValues, ProxyValues, Values},
    mesh::NamespaceSelector,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{custom::Template, template::BuiltIn};

/// What a pod gets that names no templates.
const DEFAULT_TEMPLATE: &str = "sidecar";
/// Registry and folder of images of which only the name is said.
const HUB: &str = "docker.io/lateen";

/// Whether pods are injected that say nothing themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They are.
    #[default]
    Enabled,
    /// Only pods are that ask for it.
    Disabled,
}

/// Why the ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Key `config` is not YAML, or a field has the wrong type.
    #[error("key config cannot be read: {0}")]
    Config(lateen_yaml::ReadError),
    /// Key `values` is not JSON, or a setting has the wrong type.
    #[error("key values cannot be read: {0}")]
    Values(serde_json::Error),
    /// The policy is not one.
    #[error("key config, field policy: {0:?} is neither enabled nor disabled")]
    Policy(String),
    /// A template is not one.
    #[error("key config, template {name}: {source}")]
    Template {
        /// Its name.
        name: String,
        /// What is wrong in which line.
        source: crate::gotemplate::TemplateError,
    },
    /// A template that every pod would get does not exist.
    #[error("key config, field {field}: template {name:?} is neither built in nor among templates")]
    NoTemplate {
        /// `defaultTemplates` or `aliases`.
        field: &'static str,
        /// What is named.
        name: String,
    },
}

/// Key `config` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    policy: Option<String>,
    default_templates: Option<Vec<String>>,
    templates: BTreeMap<String, String>,
    aliases: BTreeMap<String, Vec<String>>,
    never_inject_selector: Vec<NamespaceSelector>,
    always_inject_selector: Vec<NamespaceSelector>,
    injected_annotations: BTreeMap<String, String>,
    /// Everything else, of which is told that it has no effect.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Whom to inject, with what.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectorConfig {
    pub(crate) policy: Policy,
    pub(crate) default_templates: Vec<String>,
    /// Templates of the ConfigMap, by name.
    pub(crate) templates: BTreeMap<String, Template>,
    /// Names that stand for several templates.
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    pub(crate) never_inject: Vec<NamespaceSelector>,
    pub(crate) always_inject: Vec<NamespaceSelector>,
    pub(crate) injected_annotations: BTreeMap<String, String>,
    pub(crate) values: Values,
    /// The same with every setting, for templates of the ConfigMap.
    pub(crate) all_values: Value,
    warnings: Vec<String>,
}

impl Default for InjectorConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            default_templates: vec![DEFAULT_TEMPLATE.to_owned()],
            templates: BTreeMap::new(),
            aliases: BTreeMap::new(),
            never_inject: Vec::new(),
            always_inject: Vec::new(),
            injected_annotations: BTreeMap::new(),
            values: Values::default(),
            all_values: Value::Object(serde_json::Map::new()),
            warnings: Vec::new(),
        }
    }
}

impl InjectorConfig {
    /// Reads the texts of keys `config` (YAML) and `values` (JSON); an empty one means the defaults.
    pub fn parse(config: &str, values: &str) -> Result<Self, ConfigError> {
        let raw = match config.trim() {
            "" => Raw::default(),
            text => lateen_yaml::from_str(text).map_err(ConfigError::Config)?,
        };
        let all_values: Value = match values.trim() {
            "" => Value::Object(serde_json::Map::new()),
            text => serde_json::from_str(text).map_err(ConfigError::Values)?,
        };
        let read = Values::deserialize(&all_values).map_err(ConfigError::Values)?;
        Self::of(raw, read, all_values)
    }

    fn of(raw: Raw, values: Values, all_values: Value) -> Result<Self, ConfigError> {
        let policy = match raw.policy.as_deref() {
            None | Some("" | "enabled") => Policy::Enabled,
            Some("disabled") => Policy::Disabled,
            Some(other) => return Err(ConfigError::Policy(other.to_owned())),
        };
        let mut warnings: Vec<String> = raw
            .rest
            .keys()
            .map(|field| format!("field {field} of key config is not supported, has no effect"))
            .collect();
        let mut templates = BTreeMap::new();
        for (name, text) in raw.templates {
            if BuiltIn::of(&name).is_some() {
                warnings.push(format!(
                    "template {name} is built in; the one of the ConfigMap is not used"
                ));
                continue;
            }
            let template = Template::parse(&text);
            let template = template.map_err(|source| ConfigError::Template {
                name: name.clone(),
                source,
            })?;
            templates.insert(name, template);
        }
        let default = Self::default();
        let config = Self {
            policy,
            default_templates: raw.default_templates.unwrap_or(default.default_templates),
            templates,
            aliases: raw.aliases,
            never_inject: raw.never_inject_selector,
            always_inject: raw.always_inject_selector,
            injected_annotations: raw.injected_annotations,
            values,
            all_values,
            warnings,
        };
        config.check_names()?;
        Ok(config)
    }

    /// Templates that every pod gets are judged now, not when the first pod comes.
    fn check_names(&self) -> Result<(), ConfigError> {
        let of_aliases = self.aliases.values().flatten();
        let named = self
            .default_templates
            .iter()
            .map(|name| ("defaultTemplates", name));
        for (field, name) in named.chain(of_aliases.map(|name| ("aliases", name))) {
            let is_alias = field == "defaultTemplates" && self.aliases.contains_key(name);
            if !is_alias && BuiltIn::of(name).is_none() && !self.templates.contains_key(name) {
                let name = name.clone();
                return Err(ConfigError::NoTemplate { field, name });
            }
        }
        Ok(())
    }

    /// What was read and has no effect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn global(&self) -> &GlobalValues {
        &self.values.global
    }

    pub(crate) fn proxy(&self) -> &ProxyValues {
        &self.values.global.proxy
    }

    /// Whether a plugin of nodes captures traffic, instead of init containers.
    pub(crate) fn is_cni(&self) -> bool {
        let (own, older) = (&self.values.pilot.cni, &self.values.istio_cni);
        own.enabled == Some(true) || older.enabled == Some(true)
    }

    /// Whether that is a network which pods name.
    pub(crate) fn is_multus(&self) -> bool {
        let uses = [&self.values.pilot.cni, &self.values.istio_cni];
        let mut providers = uses.iter().filter_map(|it| it.provider.as_deref());
        self.is_cni() && providers.any(|provider| provider == "multus")
    }

    /// The image of the sidecar; `None` where the settings say nothing of it.
    pub(crate) fn image(&self) -> Option<String> {
        self.reference(self.proxy().image.as_deref(), "proxyv2")
    }

    /// The image of the container that sets capture up, where it is another than the sidecar's.
    pub(crate) fn init_image(&self) -> Option<String> {
        let named = self.global().proxy_init.image.as_deref();
        let whole = said(named).is_some_and(|image| image.contains('/'));
        whole.then(|| self.reference(named, "proxyv2")).flatten()
    }

    fn reference(&self, image: Option<&str>, default: &str) -> Option<String> {
        let global = self.global();
        let tag = match global.tag.as_ref() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(tag)) => tag.clone(),
            Some(number) => number.to_string(),
        };
        let (image, hub) = (said(image), said(global.hub.as_deref()));
        if let Some(whole) = image.filter(|image| image.contains('/')) {
            return Some(whole.to_owned());
        }
        if image.is_none() && hub.is_none() && tag.is_empty() {
            return None;
        }
        let tag = if tag.is_empty() {
            env!("CARGO_PKG_VERSION")
        } else {
            &tag
        };
        let (hub, image) = (hub.unwrap_or(HUB), image.unwrap_or(default));
        Some(format!("{hub}/{image}:{tag}"))
    }
}

/// A setting that is there and not empty.
pub(crate) fn said(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_keys_are_read() {
        let config = "policy: disabled\ndefaultTemplates: [sidecar, more]\n\
            templates: {more: 'metadata: {}', gateway: 'x'}\ninjectedAnnotations: {a: b}\n\
            neverInjectSelector: [{matchExpressions: [{key: job, operator: Exists}]}]\nother: 1\n";
        let read = InjectorConfig::parse(config, r#"{"global": {"network": "n"}}"#);
        let read = read.expect("a configuration");
        assert_eq!(read.policy, Policy::Disabled);
        assert_eq!(read.default_templates, ["sidecar", "more"]);
        assert_eq!(read.never_inject.len(), 1);
        assert_eq!(read.injected_annotations["a"], "b");
        assert_eq!(read.values.global.network.as_deref(), Some("n"));
        let told = read.warnings().join("\n");
        assert!(told.contains("other") && told.contains("gateway"), "{told}");
        let empty = InjectorConfig::parse("", "").expect("defaults");
        assert_eq!(empty, InjectorConfig::default());
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let check = |config: &str, values: &str, words: &[&str]| {
            let error = InjectorConfig::parse(config, values).expect_err(config);
            let error = error.to_string();
            for word in words {
                assert!(error.contains(word), "{error}");
            }
        };
        check("policy: [", "", &["key config", "line"]);
        check("policy: maybe", "", &["policy", "maybe"]);
        check("", "{", &["key values"]);
        check("", r#"{"global": {"network": 1}}"#, &["key values"]);
        check("defaultTemplates: [a]", "", &["defaultTemplates", "\"a\""]);
        check("aliases: {a: [b]}", "", &["aliases", "\"b\""]);
        check(
            "templates: {own: \"a: b\\n{{ if }}\"}",
            "",
            &["template own", "line 2"],
        );
    }

    #[test]
    fn images_are_put_together() {
        let check = |values: &str, want: Option<&str>| {
            let config = InjectorConfig::parse("", values).expect(values);
            assert_eq!(config.image().as_deref(), want, "{values}");
        };
        check("{}", None);
        check(
            r#"{"global": {"proxy": {"image": "h/p:1"}, "tag": "x"}}"#,
            Some("h/p:1"),
        );
        check(
            r#"{"global": {"hub": "h", "tag": 1.5}}"#,
            Some("h/proxyv2:1.5"),
        );
        check(
            r#"{"global": {"hub": "h", "tag": "t", "proxy": {"image": "p"}}}"#,
            Some("h/p:t"),
        );
    }
}
