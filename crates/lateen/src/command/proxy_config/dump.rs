//! A proxy's config dump: what it has, in the sections that Envoy's `/config_dump` has.

use anyhow::{Context, bail};
use serde_json::Value;

/// A section of a dump, and how its entries hold their resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// How the section's type ends.
    dump: &'static str,
    /// Where a resource stands in its entry.
    field: &'static str,
    /// The full name of the resources' message.
    pub(crate) message: &'static str,
}

pub(crate) const CLUSTERS: Section = Section {
    dump: "ClustersConfigDump",
    field: "cluster",
    message: "envoy.config.cluster.v3.Cluster",
};
pub(crate) const LISTENERS: Section = Section {
    dump: "ListenersConfigDump",
    field: "listener",
    message: "envoy.config.listener.v3.Listener",
};
pub(crate) const ROUTES: Section = Section {
    dump: "RoutesConfigDump",
    field: "route_config",
    message: "envoy.config.route.v3.RouteConfiguration",
};
pub(crate) const ENDPOINTS: Section = Section {
    dump: "EndpointsConfigDump",
    field: "endpoint_config",
    message: "envoy.config.endpoint.v3.ClusterLoadAssignment",
};
pub(crate) const EXTENSIONS: Section = Section {
    dump: "EcdsConfigDump",
    field: "ecds_filter",
    message: "envoy.config.core.v3.TypedExtensionConfig",
};
pub(crate) const BOOTSTRAP: &str = "BootstrapConfigDump";
pub(crate) const SECRETS: &str = "SecretsConfigDump";

/// A config dump.
#[derive(Clone, Debug)]
pub(crate) struct Dump(Value);

impl Dump {
    /// From what a proxy, or the control plane of a proxy, answers.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text).context("this is no JSON")?;
        if !value["configs"].is_array() {
            bail!(
                "this is no config dump, which has \"configs\"; \
                 `curl 'localhost:15000/config_dump?include_eds'` beside a proxy makes one"
            );
        }
        Ok(Dump(value))
    }

    /// The whole.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// The sections whose type ends so.
    pub(crate) fn sections(&self, dump: &str) -> impl Iterator<Item = &Value> {
        let all = self.0["configs"].as_array().into_iter().flatten();
        all.filter(move |section| {
            let kind = section["@type"].as_str();
            kind.is_some_and(|kind| kind.rsplit('.').next() == Some(dump))
        })
    }

    /// Whether there is such a section.
    pub(crate) fn has(&self, section: Section) -> bool {
        self.sections(section.dump).next().is_some()
    }

    /// The resources of a section: those of the bootstrap and those that were received.
    pub(crate) fn resources(&self, section: Section) -> Vec<&Value> {
        self.lists(section, |_| true)
    }

    /// Those alone that a control plane sent.
    pub(crate) fn received(&self, section: Section) -> Vec<&Value> {
        self.lists(section, |list| !list.starts_with("static_"))
    }

    fn lists(&self, section: Section, wanted: impl Fn(&str) -> bool) -> Vec<&Value> {
        let mut found = Vec::new();
        let lists = self.sections(section.dump).filter_map(Value::as_object);
        for (_, entries) in lists.flatten().filter(|(list, _)| wanted(list)) {
            for entry in entries.as_array().into_iter().flatten() {
                let field = section.field;
                let held = [&entry[field], &entry["active_state"][field]];
                found.extend(held.into_iter().filter(|value| !value.is_null()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_and_dynamic_resources_are_found() {
        let text = r#"{"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
             "version_info": "x",
             "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
             "dynamic_active_clusters": [{"cluster": {"name": "a"}}]},
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
             "dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l"}}}]}
        ]}"#;
        let dump = Dump::read(text).unwrap();
        assert_eq!(dump.resources(CLUSTERS).len(), 2);
        assert_eq!(dump.received(CLUSTERS), [&serde_json::json!({"name": "a"})]);
        assert_eq!(dump.resources(LISTENERS).len(), 1);
        assert!(dump.has(LISTENERS) && !dump.has(ROUTES));
    }

    #[test]
    fn other_documents_are_told_apart() {
        for (text, why) in [("{}", "no config dump"), ("a: b", "no JSON")] {
            let error = Dump::read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
