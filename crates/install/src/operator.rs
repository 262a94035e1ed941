//! Works an installation out of a profile, files and flags.

use std::sync::LazyLock;

use lateen_api::{
    Schema,
    fault::{Fault, Faults, Path},
    install::{API_VERSION, GatewayComponent, IstioOperator, KIND, KubernetesResources, Values},
    lines::line_of,
    mesh::MeshConfig,
    shape,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{InstallError, ignored, installation::first_text, merge::merge, profile, set::Set};

/// What an installation is asked to be. Later layers win: the profile, the files in their order, the
/// flags in theirs.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Names and texts of IstioOperator files.
    pub files: Vec<(String, String)>,
    /// Flags: `PATH=VALUE`.
    pub sets: Vec<String>,
    /// `--revision`, which is the last word on it.
    pub revision: Option<String>,
}

impl Layers {
    /// All layers in one IstioOperator document. Whether it makes sense, an installation says.
    ///
    /// # Errors
    /// What is wrong with which layer.
    pub fn document(&self) -> Result<Value, InstallError> {
        document(self).map(|(document, _)| document)
    }
}

/// What there is below `spec`, with the settings and the mesh's configuration.
pub(crate) fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let mut schema = IstioOperator::schema();
        let mut values = Values::schema();
        values["properties"]["meshConfig"] = MeshConfig::schema();
        schema["properties"]["values"] = values;
        schema["properties"]["meshConfig"] = MeshConfig::schema();
        schema
    });
    &SCHEMA
}

/// All layers in one document, and what in them has no effect here.
pub(crate) fn document(layers: &Layers) -> Result<(Value, Vec<String>), InstallError> {
    let mut warnings = Vec::new();
    let mut files = Vec::new();
    for (file, text) in &layers.files {
        files.push(read(file, text, &mut warnings)?);
    }
    let mut sets = Vec::new();
    for flag in &layers.sets {
        match ignored::of_flag(flag) {
            Some(warning) => warnings.push(warning),
            None => sets.push(Set::parse(flag, schema())?),
        }
    }
    let by_flag = sets.iter().rev().find_map(Set::profile);
    let by_file = files
        .iter()
        .rev()
        .find_map(|f| f["spec"]["profile"].as_str());
    let name = by_flag.or(by_file).filter(|name| !name.is_empty());
    let mut whole = profile::profile(name.unwrap_or(profile::DEFAULT))?;
    for file in &files {
        merge(&mut whole, file);
    }
    for set in &sets {
        set.apply(&mut whole["spec"])?;
    }
    if let Some(revision) = &layers.revision {
        whole["spec"]["revision"] = json!(revision);
    }
    Ok((whole, warnings))
}

/// A file, whose fields are known.
fn read(file: &str, text: &str, warnings: &mut Vec<String>) -> Result<Value, InstallError> {
    let refuse = |reason: String| InstallError::File {
        file: file.to_owned(),
        reason,
    };
    let document: Value = serde_saphyr::from_str(text).map_err(|e| refuse(e.to_string()))?;
    let (version, kind) = (&document["apiVersion"], &document["kind"]);
    if version != API_VERSION || kind != KIND {
        return Err(refuse(format!(
            "is apiVersion {version}, kind {kind}; an installation is apiVersion {API_VERSION:?}, \
             kind {KIND:?}"
        )));
    }
    let mut faults = Faults::default();
    shape::check(
        &document["spec"],
        schema(),
        &Path::root("spec"),
        &mut faults,
    );
    let (with_effect, without) = ignored::split(faults.0);
    warnings.extend(without.iter().map(|field| format!("{file}: {field}")));
    if !with_effect.is_empty() {
        let line = |fault: &Fault| line_of(text, &fault.field).unwrap_or(1);
        let faults = with_effect.into_iter().map(|fault| (line(&fault), fault));
        return Err(InstallError::Fields {
            file: file.to_owned(),
            faults: faults.collect(),
        });
    }
    Ok(document)
}

/// The typed form of what all layers say together.
pub(crate) fn typed(document: &Value) -> Result<(IstioOperator, Value, Values), InstallError> {
    let mut spec = document["spec"].clone();
    // What nothing checks is the last word on settings.
    let mut values = spec["values"].take();
    for layer in [&json!({}), &spec["unvalidatedValues"]] {
        if layer.is_object() {
            merge(&mut values, layer);
        }
    }
    let fault = |field: &str, error: serde_json::Error| {
        InstallError::Together(vec![Fault {
            field: field.into(),
            reason: error.to_string(),
            help: String::new(),
        }])
    };
    let operator = IstioOperator::deserialize(&spec).map_err(|error| fault("spec", error))?;
    let settings = values;
    let values = Values::deserialize(&settings).map_err(|error| fault("spec.values", error))?;
    let faults = judge(&operator, &values);
    if !faults.is_empty() {
        return Err(InstallError::Together(faults));
    }
    supported(&operator)?;
    Ok((operator, settings, values))
}

/// Fields that are read for other parts, and have no effect for these.
pub(crate) fn without_effect(operator: &IstioOperator) -> Vec<String> {
    let parts = &operator.components;
    let mut fields = Vec::new();
    for (name, part) in [
        ("base", &parts.base),
        ("pilot", &parts.pilot),
        ("istiodRemote", &parts.istiod_remote),
    ] {
        let Some(part) = part else { continue };
        let at = format!("spec.components.{name}");
        if part.namespace.as_deref().is_some_and(|own| !own.is_empty()) {
            fields.push(format!("{at}.namespace: not supported, use spec.namespace"));
        }
        let mut k8s = part.k8s.clone().unwrap_or_default();
        if name == "base" {
            k8s.overlays.clear();
        }
        if name != "pilot" && k8s != KubernetesResources::default() {
            fields.push(format!("{at}.k8s: not supported, has no effect"));
        }
    }
    fields
}

/// What no single layer can be blamed for.
fn judge(operator: &IstioOperator, values: &Values) -> Vec<Fault> {
    let mut faults = Faults::default();
    let spec = Path::root("spec");
    let revision = [operator.revision.as_deref(), values.revision.as_deref()];
    if let Some(revision) = first_text(revision).filter(|it| !is_revision(it)) {
        faults.add(
            &spec.field("revision"),
            format!("{revision:?} is no name of a revision"),
            format!("use letters of lower case, digits and -, {REVISION_MAX} at most"),
        );
    }
    let remote = operator.components.istiod_remote.as_ref();
    let is_remote = remote.is_some_and(|part| part.enabled == Some(true));
    if is_remote || values.istiod_remote.enabled == Some(true) {
        judge_remote(values, &mut faults);
    }
    judge_cni(values, &mut faults);
    let components = spec.field("components");
    let gateways = &operator.components;
    for (list, gateways) in [
        ("ingressGateways", &gateways.ingress_gateways),
        ("egressGateways", &gateways.egress_gateways),
    ] {
        let list = components.field(list);
        for (n, gateway) in gateways.iter().enumerate() {
            let at = list.index(n);
            let at = at.field("name");
            match gateway.name.as_deref().unwrap_or_default() {
                "" => faults.add(&at, "Required value", "name the gateway"),
                name if !is_service(name) => faults.add(
                    &at,
                    format!("{name:?} is no name of a Service"),
                    "use letters of lower case, digits and -, 63 at most, and begin with a letter",
                ),
                name if is_twice(gateways, n) => {
                    faults.add(&at, format!("{name:?} is there twice"), "choose another");
                }
                _ => {}
            }
        }
    }
    faults.0
}

fn is_twice(gateways: &[GatewayComponent], n: usize) -> bool {
    let place = |gateway: &GatewayComponent| (gateway.name.clone(), gateway.namespace.clone());
    let (before, rest) = gateways.split_at(n);
    let own = rest.first().map(place);
    before.iter().map(place).any(|other| Some(other) == own)
}

/// A cluster whose control plane is elsewhere must know where, and whom to trust there: nobody in it
/// puts a certificate into its webhook.
fn judge_remote(values: &Values, faults: &mut Faults) {
    let remote = &values.istiod_remote;
    let root = Path::root("spec.values");
    let (at_remote, global) = (root.field("istiodRemote"), root.field("global"));
    let url = first_text([remote.injection_url.as_deref()]);
    let address = first_text([values.global.remote_pilot_address.as_deref()]);
    if url.is_none() && address.is_none() {
        faults.add(
            &global.field("remotePilotAddress"),
            "Required value",
            "say where the control plane is: its address, or istiodRemote.injectionURL",
        );
    }
    if url.is_none() && first_text([remote.injection_ca_bundle.as_deref()]).is_none() {
        faults.add(
            &at_remote.field("injectionCABundle"),
            "Required value",
            "give the control plane's root certificate, in base64",
        );
    }
}

/// Pods are neither labelled nor deleted: that takes rights to write, on every node.
fn judge_cni(values: &Values, faults: &mut Faults) {
    let repair = &values.cni.repair;
    let root = Path::root("spec.values");
    let (cni, global) = (root.field("cni"), root.field("global"));
    let at = cni.field("repair");
    for (name, is_on) in [
        ("labelPods", repair.label_pods),
        ("deletePods", repair.delete_pods),
    ] {
        if is_on == Some(true) {
            let help = "leave it out: capture is set up in the pods themselves";
            faults.add(&at.field(name), "not supported", help);
        }
    }
    let platform = first_text([values.global.platform.as_deref()]);
    if let Some(platform) = platform.filter(|name| !crate::cni::is_known(name)) {
        faults.add(
            &global.field("platform"),
            format!("{platform:?} is not known"),
            "leave it out, or say openshift, gke, k3s, k3d, microk8s or minikube",
        );
    }
}

/// With `istio-validator-` before it and the like, it still is a label's length.
const REVISION_MAX: usize = 47;

/// Whether it can be a part of the names of a revision's objects.
pub(crate) fn is_revision(text: &str) -> bool {
    is_label(text) && text.len() <= REVISION_MAX
}

fn is_service(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Parts that the program does not have are refused rather than left out: whoever asked for them
/// relies on them.
fn supported(operator: &IstioOperator) -> Result<(), InstallError> {
    let parts = &operator.components;
    let is_on = |part: &Option<lateen_api::install::Component>| {
        part.as_ref().and_then(|part| part.enabled).unwrap_or(false)
    };
    let refused = [(
        "components.ztunnel",
        is_on(&parts.ztunnel),
        "proxies run in pods; turn the component off and label namespaces with \
         istio-injection=enabled",
    )];
    match refused.into_iter().find(|(_, is_on, _)| *is_on) {
        None => Ok(()),
        Some((what, _, help)) => Err(InstallError::NotSupported {
            what: what.to_owned(),
            help: help.to_owned(),
        }),
    }
}
