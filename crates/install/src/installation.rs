//! An installation, worked out: what its parts ask of it.

use lateen_api::{
    fault::Fault,
    install::{
        Component, GatewayComponent, GatewayValues, IstioOperator, KubernetesResources, Values,
    },
    mesh::{InterceptionMode, MeshConfig, without_effect},
};
use lateen_injector::InjectorConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    InstallError, Layers, config, control_plane, environment, merge::merge, operator, remote, scale,
};

/// Where images come from, unless it is said.
pub(crate) const HUB: &str = "docker.io/lateen";
/// Where the control plane lives, unless it is said.
const NAMESPACE: &str = "istio-system";
/// In the environment of the control plane: whether analysis runs in it.
pub(crate) const ANALYSIS: &str = "PILOT_ENABLE_ANALYSIS";
/// What objects say that belong to no revision by name.
pub(crate) const DEFAULT_REVISION: &str = "default";

/// An installation. What it consists of is [`crate::parts`].
#[derive(Clone, Debug)]
pub struct Installation {
    document: Value,
    operator: IstioOperator,
    /// `values`, with what nothing checks laid over them.
    settings: Value,
    values: Values,
    mesh: MeshConfig,
    injector: InjectorConfig,
    warnings: Vec<String>,
}

/// A gateway of an installation.
pub(crate) struct Gateway<'a> {
    /// Its name, which a check has seen to.
    pub(crate) name: &'a str,
    pub(crate) is_ingress: bool,
    pub(crate) component: &'a GatewayComponent,
    pub(crate) values: &'a GatewayValues,
}

impl Installation {
    /// Works it out.
    ///
    /// # Errors
    /// What is wrong with which layer.
    pub fn of(layers: &Layers) -> Result<Self, InstallError> {
        let (document, mut warnings) = operator::document(layers)?;
        let (operator, settings, values) = operator::typed(&document)?;
        warnings.extend(operator::without_effect(&operator));
        let mut installation = Installation {
            document,
            operator,
            settings,
            values,
            mesh: MeshConfig::default(),
            injector: InjectorConfig::default(),
            warnings,
        };
        let mesh = installation.mesh_config();
        let mesh = MeshConfig::deserialize(&mesh).map_err(|error| together("meshConfig", error))?;
        let usable = mesh.check_trust_domains();
        usable.map_err(|error| together("meshConfig", error))?;
        let proxy = mesh.default_config.as_ref();
        if proxy.and_then(|proxy| proxy.interception_mode) == Some(InterceptionMode::Tproxy) {
            let field = "meshConfig.defaultConfig.interceptionMode";
            return Err(together(
                field,
                "TPROXY is not supported; REDIRECT and NONE are",
            ));
        }
        installation.mesh = mesh;
        let (config, values) = config::injector_texts(&installation);
        let injector = InjectorConfig::parse(&config, &values);
        installation.injector = injector.map_err(|error| together("values", error))?;
        let mut unread = installation.unread_variables();
        unread.extend(installation.unread_mesh_config());
        unread.extend(remote::without_effect(&installation));
        unread.extend(
            installation
                .pilot()
                .and(scale::without_effect(&installation.values.pilot)),
        );
        installation.warnings.extend(unread);
        Ok(installation)
    }

    /// Variables of the control plane's environment that it does not act on.
    fn unread_variables(&self) -> Vec<String> {
        let Some(pilot) = self.pilot() else {
            return Vec::new();
        };
        let mut unread = Vec::new();
        for (name, value) in &self.values.pilot.env {
            let value = text(value);
            if environment::is_unread(name, &value) {
                unread.push(format!("spec.values.pilot.env.{name}={value}"));
            }
        }
        for variable in k8s(pilot.k8s.as_ref()).env {
            let name = variable["name"].as_str().unwrap_or_default();
            let value = text(&variable["value"]);
            if environment::is_unread(name, &value) {
                unread.push(format!("spec.components.pilot.k8s.env: {name}={value}"));
            }
        }
        let told = unread.into_iter();
        told.map(|variable| format!("{variable}: not supported, has no effect"))
            .collect()
    }

    /// What its layers say of the mesh that nothing acts on.
    fn unread_mesh_config(&self) -> Vec<String> {
        let of = |at: &str, mesh: &Option<Value>| -> Vec<String> {
            let unread = mesh
                .as_ref()
                .map_or_else(Vec::new, without_effect)
                .into_iter();
            let told = unread.map(|it| format!("spec.{at}.{it}: not supported, has no effect"));
            told.collect()
        };
        let mut unread = of("values.meshConfig", &self.values.mesh_config);
        unread.extend(of("meshConfig", &self.operator.mesh_config));
        unread
    }

    /// A profile alone.
    ///
    /// # Errors
    /// There is none of that name, or it has parts that are not supported.
    pub fn of_profile(name: &str) -> Result<Self, InstallError> {
        Self::of(&Layers {
            sets: vec![format!("profile={name}")],
            ..Layers::default()
        })
    }

    /// All layers in one IstioOperator document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// What the layers say that has no effect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The name of its document, by which it is told from others of the same revision.
    pub fn name(&self) -> Option<&str> {
        let name = self.document["metadata"]["name"].as_str();
        name.filter(|name| !name.is_empty())
    }

    /// The profile that it is built upon.
    pub fn profile(&self) -> &str {
        let profile = self.operator.profile.as_deref();
        profile
            .filter(|it| !it.is_empty())
            .unwrap_or(crate::profile::DEFAULT)
    }

    /// Where the control plane lives.
    pub fn namespace(&self) -> &str {
        let own = self.operator.namespace.as_deref();
        let in_values = self.values.global.istio_namespace.as_deref();
        first_text([own, in_values]).unwrap_or(NAMESPACE)
    }

    /// Revision of the control plane; `default` where it has none of its own.
    pub fn revision(&self) -> &str {
        let own = self.operator.revision.as_deref();
        first_text([own, self.values.revision.as_deref()]).unwrap_or(DEFAULT_REVISION)
    }

    /// A name as a revision has it: `istiod`, `istiod-canary`.
    pub(crate) fn revisioned(&self, name: &str) -> String {
        match self.revision() {
            DEFAULT_REVISION => name.to_owned(),
            revision => format!("{name}-{revision}"),
        }
    }

    /// Host name of the control plane's Service.
    pub(crate) fn control_plane(&self) -> String {
        format!("{}.{}.svc", self.revisioned("istiod"), self.namespace())
    }

    /// The mesh's configuration as the gateways' pods are made by it.
    pub(crate) fn typed_mesh_config(&self) -> MeshConfig {
        self.mesh.clone()
    }

    /// The injector's configuration as the gateways' pods are made by it.
    pub(crate) fn injector_config(&self) -> InjectorConfig {
        self.injector.clone()
    }

    /// `values`, with what nothing checks laid over them.
    pub(crate) fn settings(&self) -> &Value {
        &self.settings
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// What every cluster of the mesh has, if it is here.
    pub(crate) fn base(&self) -> Option<&Component> {
        let part = self.operator.components.base.as_ref();
        part.filter(|part| part.enabled == Some(true))
    }

    /// The control plane, if it is here.
    pub(crate) fn pilot(&self) -> Option<&Component> {
        let part = self.operator.components.pilot.as_ref();
        let is_off = self.values.pilot.enabled == Some(false);
        part.filter(|part| part.enabled == Some(true) && !is_off)
    }

    /// The plugin of nodes, if it is here.
    pub(crate) fn cni(&self) -> Option<&Component> {
        let part = self.operator.components.cni.as_ref();
        part.filter(|part| part.enabled == Some(true))
    }

    /// Whether a plugin of nodes captures traffic: one that is installed with the mesh, or that is said to
    /// be there.
    pub(crate) fn is_cni_used(&self) -> bool {
        let (own, older) = (&self.values.pilot.cni, &self.values.istio_cni);
        let is_said = [own, older].iter().any(|it| it.enabled == Some(true));
        is_said || self.cni().is_some()
    }

    /// Whether statuses are told what analysis finds, by the chart's switch or by the environment.
    pub(crate) fn is_analysed(&self) -> bool {
        let by_switch = self.values.global.istiod.enable_analysis == Some(true);
        match self.values.pilot.env.get(ANALYSIS) {
            Some(set) => environment::flag(&text(set)) == Some(true),
            None => by_switch,
        }
    }

    /// Whether the control plane is elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        let of_values = self.values.istiod_remote.enabled == Some(true);
        is_on(self.operator.components.istiod_remote.as_ref()) || of_values
    }

    /// What the control plane is started with, if it is here.
    pub fn control_plane_arguments(&self) -> Option<Vec<String>> {
        self.pilot().map(|_| control_plane::args(self))
    }

    /// Whether the mesh's own objects are in this cluster.
    pub(crate) fn holds_configuration(&self) -> bool {
        self.values.pilot.config_map != Some(false)
    }

    /// The gateways that are there.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = Gateway<'_>> {
        let parts = &self.operator.components;
        let (ingress, egress) = (&parts.ingress_gateways, &parts.egress_gateways);
        let values = &self.values.gateways;
        let all = ingress.iter().map(|it| (it, &values.ingress, true));
        let all = all.chain(egress.iter().map(|it| (it, &values.egress, false)));
        all.filter(|(component, ..)| component.enabled == Some(true))
            .map(|(component, values, is_ingress)| Gateway {
                name: component.name.as_deref().unwrap_or_default(),
                is_ingress,
                component,
                values,
            })
    }

    /// MeshConfig as it is written: what the installation says, over what it has to say.
    pub(crate) fn mesh_config(&self) -> Value {
        let mut mesh = json!({
            "defaultConfig": {"discoveryAddress": format!("{}:15012", self.control_plane())},
            "enablePrometheusMerge": true,
            "rootNamespace": self.namespace(),
            "trustDomain": "cluster.local",
        });
        if let Some(id) = &self.values.global.mesh_id {
            mesh["defaultConfig"]["meshId"] = json!(id);
        }
        if let Some(percent) = self.values.pilot.trace_sampling {
            mesh["defaultConfig"]["tracing"] = json!({"sampling": percent});
        }
        for own in [&self.values.mesh_config, &self.operator.mesh_config] {
            merge(&mut mesh, own.as_ref().unwrap_or(&json!({})));
        }
        mesh
    }

    /// `hub/image:tag`; an image that is a whole reference already stays as it is.
    pub(crate) fn image(&self, image: &str, own: Source<'_>) -> String {
        if image.contains('/') {
            return image.to_owned();
        }
        let global = &self.values.global;
        let hubs = [own.hub, self.operator.hub.as_deref(), global.hub.as_deref()];
        let hub = first_text(hubs).unwrap_or(HUB);
        let tags = [own.tag, self.operator.tag.as_ref(), global.tag.as_ref()];
        let tag = tags
            .into_iter()
            .flatten()
            .map(text)
            .find(|tag| !tag.is_empty());
        let tag = tag.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
        format!("{hub}/{image}:{tag}")
    }

    /// Of the sidecar and of gateways.
    pub(crate) fn proxy_image(&self, own: Source<'_>) -> String {
        let named = self.values.global.proxy.image.as_deref();
        self.image(first_text([named]).unwrap_or("proxyv2"), own)
    }

    /// What the cluster is called in the mesh.
    pub(crate) fn cluster_id(&self) -> &str {
        let named = self.values.global.multi_cluster.cluster_name.as_deref();
        first_text([named]).unwrap_or("Kubernetes")
    }
}

impl Default for Installation {
    fn default() -> Self {
        Self::of(&Layers::default()).expect("the default profile is whole, which tests see to")
    }
}

/// What no layer can be blamed for.
fn together(field: &str, error: impl std::fmt::Display) -> InstallError {
    InstallError::Together(vec![Fault {
        field: format!("spec.{field}"),
        reason: error.to_string(),
        help: String::new(),
    }])
}

/// Where the images of one part come from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Source<'a> {
    pub(crate) hub: Option<&'a str>,
    pub(crate) tag: Option<&'a Value>,
}

/// A version that may look like a number.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn is_on(part: Option<&Component>) -> bool {
    part.is_some_and(|part| part.enabled == Some(true))
}

/// The first that says anything.
pub(crate) fn first_text<const N: usize>(texts: [Option<&str>; N]) -> Option<&str> {
    texts.into_iter().flatten().find(|text| !text.is_empty())
}

/// No settings at all.
pub(crate) fn k8s(of: Option<&KubernetesResources>) -> KubernetesResources {
    of.cloned().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The installation that a file, without its first two lines, and settings are.
    pub(crate) fn of(file: &str, sets: &[&str]) -> Installation {
        let head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n";
        Installation::of(&Layers {
            files: vec![("f.yaml".into(), format!("{head}{file}"))],
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            revision: None,
        })
        .expect("an installation")
    }

    fn refused(file: &str) -> String {
        let layers = Layers {
            files: vec![("f.yaml".into(), file.to_owned())],
            ..Layers::default()
        };
        Installation::of(&layers).expect_err("refused").to_string()
    }

    #[test]
    fn later_layers_win() {
        let installation = of(
            "spec:\n  profile: demo\n  tag: 1.5\n  meshConfig: {accessLogFile: /x}\n",
            &["hub=h", "values.global.tag=v"],
        );
        assert_eq!(installation.profile(), "demo");
        assert_eq!(installation.gateways().count(), 2);
        assert_eq!(installation.proxy_image(Source::default()), "h/proxyv2:1.5");
        assert_eq!(installation.mesh_config()["accessLogFile"], "/x");
        let by_flag = of("spec:\n  profile: demo\n", &["profile=minimal"]);
        assert_eq!(by_flag.gateways().count(), 0);
        assert!(by_flag.mesh_config().get("accessLogFile").is_none());
    }

    #[test]
    fn names_have_their_revision() {
        let installation = of("spec: {}\n", &["revision=canary", "namespace=mesh"]);
        assert_eq!(installation.control_plane(), "istiod-canary.mesh.svc");
        let mesh = installation.mesh_config();
        assert_eq!(mesh["rootNamespace"], "mesh");
        assert_eq!(
            mesh["defaultConfig"]["discoveryAddress"],
            "istiod-canary.mesh.svc:15012"
        );
    }

    #[test]
    fn templates_know_where_the_control_plane_is() {
        for setting in ["namespace=mesh", "values.global.istioNamespace=mesh"] {
            let (_, values) = config::injector_texts(&of("spec: {}\n", &[setting]));
            let values: Value = serde_json::from_str(&values).expect("JSON");
            assert_eq!(values["global"]["istioNamespace"], "mesh", "{setting}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n";
        assert_eq!(
            refused(&format!(
                "{head}spec:\n  profil: demo\n  components:\n    pilot: {{enabled: 3}}\n"
            )),
            "f.yaml:4: spec.profil: unknown field; did you mean profile?\n\
             f.yaml:6: spec.components.pilot.enabled: is a number; must be true or false"
        );
        assert_eq!(
            refused("kind: Deployment\n"),
            "f.yaml: is apiVersion null, kind \"Deployment\"; an installation is apiVersion \
             \"install.istio.io/v1alpha1\", kind \"IstioOperator\""
        );
        assert!(refused("a: [").starts_with("f.yaml: "));
        assert_eq!(
            refused(&format!("{head}spec:\n  revision: Bad_One\n")),
            "spec.revision: \"Bad_One\" is no name of a revision; use letters of lower case, \
             digits and -, 47 at most"
        );
        assert_eq!(
            refused(&format!(
                "{head}spec:\n  meshConfig: {{defaultConfig: {{interceptionMode: TPROXY}}}}\n"
            )),
            "spec.meshConfig.defaultConfig.interceptionMode: TPROXY is not supported; REDIRECT and \
             NONE are"
        );
        assert_eq!(
            refused(&format!(
                "{head}spec:\n  components: {{ztunnel: {{enabled: true}}}}\n"
            )),
            "components.ztunnel is not supported: proxies run in pods; turn the component off and label \
             namespaces with istio-injection=enabled"
        );
        assert_eq!(
            refused(&format!(
                "{head}spec:\n  values: {{cni: {{repair: {{deletePods: true}}}}}}\n"
            )),
            "spec.values.cni.repair.deletePods: not supported; leave it out: capture is set up in the \
             pods themselves"
        );
    }

    #[test]
    fn what_the_mesh_does_not_act_on_is_told() {
        let installation = of(
            "spec:\n  meshConfig: {enableTracing: true, authPolicy: MUTUAL_TLS}\n",
            &[
                "values.meshConfig.caCertificates[0].pem=x",
                "meshConfig.defaultConfig.drainDuration=5s",
            ],
        );
        assert_eq!(
            installation.warnings(),
            [
                "spec.values.meshConfig.caCertificates: not supported, has no effect",
                "spec.meshConfig.enableTracing: not supported, has no effect",
                "spec.meshConfig.defaultConfig.drainDuration: not supported, has no effect",
            ]
        );
        for profile in crate::profile::NAMES {
            let Ok(installation) = Installation::of_profile(profile) else {
                continue;
            };
            let warnings = installation.warnings();
            assert!(
                !warnings.iter().any(|it| it.contains("meshConfig")),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn what_is_no_trust_domain_is_refused() {
        let head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n";
        assert_eq!(
            refused(&format!(
                "{head}spec:\n  meshConfig: {{trustDomainAliases: [old, a/b]}}\n"
            )),
            "spec.meshConfig: trustDomainAliases[1]: \"a/b\" is no trust domain; use letters, digits, \
             \".\", \"-\" and \"_\""
        );
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let installation = of(
            "spec:\n  values:\n    telemetry: {enabled: true}\n",
            &["values.pilot.taint.enabled=true"],
        );
        assert_eq!(
            installation.warnings(),
            [
                "f.yaml: spec.values.telemetry: not supported, has no effect",
                "--set values.pilot.taint.enabled: not supported, has no effect",
            ]
        );
    }
}
