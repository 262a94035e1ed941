//! Settings of the public charts that have no effect here, which whoever writes one is told.

use lateen_api::{fault::Fault, shape::UNKNOWN_FIELD};

/// Settings, and whatever is below them.
pub(crate) const IGNORED: &[&str] = &[
    "base.enableCRDTemplates",
    "base.validateGateway",
    "base.validationCABundle",
    "cni.ambient",
    "cni.cniNetnsDir",
    "cni.configDir",
    "cni.daemonSetLabels",
    "cni.enabled",
    "cni.istioOwnedCNIConfig",
    "cni.istioOwnedCNIConfigFileName",
    "cni.logLevel",
    "cni.psp_cluster_role",
    "cni.pullPolicy",
    "cni.repair.brokenPodLabelKey",
    "cni.repair.brokenPodLabelValue",
    "cni.repair.createEvents",
    "cni.repair.hub",
    "cni.repair.image",
    "cni.repair.initContainerName",
    "cni.repair.tag",
    "cni.resourceQuotas",
    "cni.seccompProfile",
    "cni.updateStrategy",
    "cni.variant",
    "compatibilityVersion",
    "defaultRevision",
    "experimental",
    "gateways.istio-egressgateway.enabled",
    "gateways.istio-egressgateway.name",
    "gateways.istio-egressgateway.podAntiAffinityLabelSelector",
    "gateways.istio-egressgateway.podAntiAffinityTermLabelSelector",
    "gateways.istio-egressgateway.runAsRoot",
    "gateways.istio-egressgateway.secretVolumes",
    "gateways.istio-egressgateway.configVolumes",
    "gateways.istio-egressgateway.additionalContainers",
    "gateways.istio-egressgateway.injectionTemplate",
    "gateways.istio-egressgateway.serviceAccount",
    "gateways.istio-ingressgateway.enabled",
    "gateways.istio-ingressgateway.name",
    "gateways.istio-ingressgateway.podAntiAffinityLabelSelector",
    "gateways.istio-ingressgateway.podAntiAffinityTermLabelSelector",
    "gateways.istio-ingressgateway.runAsRoot",
    "gateways.istio-ingressgateway.secretVolumes",
    "gateways.istio-ingressgateway.configVolumes",
    "gateways.istio-ingressgateway.additionalContainers",
    "gateways.istio-ingressgateway.injectionTemplate",
    "gateways.istio-ingressgateway.serviceAccount",
    "gateways.istio-ingressgateway.customService",
    "gateways.seccompProfile",
    "gateways.securityContext",
    "global.arch",
    "global.caName",
    "global.certSigners",
    "global.configCluster",
    "global.configRootNamespace",
    "global.defaultConfigVisibilitySettings",
    "global.enabled",
    "global.externalIstiod",
    "global.jwtPolicy",
    "global.mountMtlsCerts",
    "global.nativeNftables",
    "global.omitSidecarInjectorConfigMap",
    "global.operatorManageWebhooks",
    "global.podDNSSearchNamespaces",
    "global.proxy.enableCoreDump",
    "global.proxy.outlierLogPath",
    "global.proxy.seccompProfile",
    "global.proxy.tracer",
    "global.proxy.image_type",
    "global.multiCluster.enabled",
    "global.multiCluster.includeEnvoyFilter",
    "global.resourceScope",
    "global.sts",
    "global.tracer",
    "global.useMCP",
    "global.variant",
    "global.waypoint",
    "istio-cni",
    "istio_cni.chained",
    "istiodRemote.enabledLocalInjectorIstiod",
    "pilot.enableProtocolSniffingForInbound",
    "pilot.enableProtocolSniffingForOutbound",
    "pilot.initContainers",
    "pilot.ipFamilies",
    "pilot.ipFamilyPolicy",
    "pilot.jwksResolverExtraRootCA",
    "pilot.memory",
    "pilot.seccompProfile",
    "pilot.taint",
    "pilot.trustedZtunnelName",
    "pilot.trustedZtunnelNamespace",
    "pilot.variant",
    "pilot.volumeMounts",
    "pilot.volumes",
    "profile",
    "revisionTags",
    "sidecarInjectorWebhook.objectSelector",
    "sidecarInjectorWebhook.useLegacySelectors",
    "sidecarInjectorWebhookAnnotations",
    "telemetry",
    "ztunnel",
];

/// Fields beside the settings, which name charts and their versions.
const BESIDE: &[&str] = &["compatibilityVersion", "installPackagePath"];

/// Faults that refuse a document, and notes on fields that are left unread.
pub(crate) fn split(faults: Vec<Fault>) -> (Vec<Fault>, Vec<String>) {
    let (without, with): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| {
        let path = fault.field.strip_prefix("spec.");
        fault.reason == UNKNOWN_FIELD && path.is_some_and(is_without_effect)
    });
    (
        with,
        without.iter().map(|fault| note(&fault.field)).collect(),
    )
}

/// A note on a `--set` of such a setting.
pub(crate) fn of_flag(flag: &str) -> Option<String> {
    let (path, _) = flag.split_once('=')?;
    let path = path.strip_prefix("spec.").unwrap_or(path);
    is_without_effect(path).then(|| format!("--set {}", note(path)))
}

fn note(field: &str) -> String {
    format!("{field}: not supported, has no effect")
}

/// Whether nothing acts on a field below `spec`.
fn is_without_effect(path: &str) -> bool {
    let setting = path.strip_prefix("values.");
    BESIDE.contains(&path) || setting.is_some_and(is_ignored)
}

fn is_ignored(setting: &str) -> bool {
    let is_below = |ignored: &str| {
        let rest = setting.strip_prefix(ignored);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    IGNORED.iter().any(|ignored| is_below(ignored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_effect_are_told() {
        assert_eq!(
            of_flag("values.telemetry.v2.enabled=true").as_deref(),
            Some("--set values.telemetry.v2.enabled: not supported, has no effect")
        );
        assert_eq!(of_flag("values.telemetryX=true"), None);
        assert_eq!(of_flag("values.global.hub=x"), None);
    }

    #[test]
    fn every_setting_is_there_once_and_acts_not() {
        use lateen_api::{Schema, install::Values};

        let schema = Values::schema();
        for (n, setting) in IGNORED.iter().enumerate() {
            assert!(!IGNORED[..n].contains(setting), "{setting} is there twice");
            let place = setting
                .split('.')
                .try_fold(&schema, |at, name| at["properties"].get(name));
            assert!(place.is_none(), "{setting} acts");
        }
    }
}
