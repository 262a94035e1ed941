//! The analysers, by Istio's names of them.

use super::{
    Code, Findings, annotations, authn, authz, conditions, crds, deployment, deprecation,
    destination_rule, envoy_filter, external, gateway, index::Index, injection, jwt, maturity,
    mesh_networks, multicluster, schema, service, service_entry, sidecar, telemetry, upgrade,
    virtual_service, webhook,
};

/// One of the things that are looked for.
pub struct Analyzer {
    /// Istio's name of it.
    pub name: &'static str,
    /// What it looks for.
    pub about: &'static str,
    /// What it may report.
    pub codes: &'static [Code],
    pub(super) run: for<'a> fn(&Index<'a>, &mut Findings<'a>),
}

/// All of them.
pub const ANALYZERS: &[Analyzer] = &[
    Analyzer {
        name: "annotations.K8sAnalyzer",
        about: "Annotations of the mesh that are unknown, misplaced, old, or say what they may not",
        codes: &[
            Code::MisplacedAnnotation,
            Code::UnknownAnnotation,
            Code::InvalidAnnotation,
            Code::DeprecatedAnnotation,
        ],
        run: annotations::check,
    },
    Analyzer {
        name: "authn.BlockedCIDRsAnalyzer",
        about: "Whether the control plane may fetch keys of tokens from anywhere",
        codes: &[Code::JwksUriFetchUnrestricted],
        run: authn::jwks,
    },
    Analyzer {
        name: "authz.AuthorizationPoliciesAnalyzer",
        about: "Workloads and namespaces that AuthorizationPolicies name",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::NoMatchingWorkloadsFound,
        ],
        run: authz::policies,
    },
    Analyzer {
        name: "conditions.ConditionAnalyzer",
        about: "Statuses that say that an object is not in force",
        codes: &[Code::NegativeConditionStatus],
        run: conditions::check,
    },
    Analyzer {
        name: "deployment.ApplicationUIDAnalyzer",
        about: "Applications that run as the proxy's user",
        codes: &[Code::InvalidApplicationUID],
        run: deployment::users,
    },
    Analyzer {
        name: "deployment.ServiceAssociationAnalyzer",
        about: "Services that say different things of a workload's ports",
        codes: &[
            Code::DeploymentAssociatedToMultipleServices,
            Code::DeploymentConflictingPorts,
        ],
        run: deployment::services,
    },
    Analyzer {
        name: "deprecation.FieldAnalyzer",
        about: "Fields of old",
        codes: &[Code::Deprecated],
        run: deprecation::check,
    },
    Analyzer {
        name: "destinationrule.CaCertificateAnalyzer",
        about: "TLS to servers whose certificate nobody verifies",
        codes: &[
            Code::NoServerCertificateVerificationDestinationLevel,
            Code::NoServerCertificateVerificationPortLevel,
        ],
        run: destination_rule::roots,
    },
    Analyzer {
        name: "destinationrule.PodNotSelectedAnalyzer",
        about: "Hosts of DestinationRules that are unknown, and subsets without pods",
        codes: &[
            Code::DestinationRuleSubsetNotSelectPods,
            Code::UnknownDestinationRuleHost,
        ],
        run: destination_rule::hosts,
    },
    Analyzer {
        name: "envoyfilter.EnvoyPatchAnalyzer",
        about: "Patches that depend on others, or have no effect",
        codes: &[
            Code::EnvoyFilterUsesRelativeOperation,
            Code::EnvoyFilterUsesReplaceOperationIncorrectly,
            Code::EnvoyFilterUsesAddOperationIncorrectly,
            Code::EnvoyFilterUsesRemoveOperationIncorrectly,
            Code::EnvoyFilterUsesRelativeOperationWithProxyVersion,
        ],
        run: envoy_filter::check,
    },
    Analyzer {
        name: "externalcontrolplane.ExternalControlPlaneAnalyzer",
        about: "Webhooks of a control plane outside of the cluster",
        codes: &[
            Code::InvalidExternalControlPlaneConfig,
            Code::ExternalControlPlaneAddressIsNotAHostname,
        ],
        run: external::check,
    },
    Analyzer {
        name: "gateway.CertificateAnalyzer",
        about: "Certificates that several Gateways have",
        codes: &[Code::GatewayDuplicateCertificate],
        run: gateway::certificates,
    },
    Analyzer {
        name: "gateway.ConflictingGatewayAnalyzer",
        about: "Hosts that several Gateways have on one port",
        codes: &[Code::ConflictingGateways],
        run: gateway::conflicts,
    },
    Analyzer {
        name: "gateway.IngressGatewayPortAnalyzer",
        about: "Ports of Gateways that no Service leads to",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::GatewayPortNotDefinedOnService,
        ],
        run: gateway::ports,
    },
    Analyzer {
        name: "gateway.SecretAnalyzer",
        about: "Certificates of Gateways that are not there, or are none",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::InvalidGatewayCredential,
        ],
        run: gateway::secrets,
    },
    Analyzer {
        name: "injection.Analyzer",
        about: "Namespaces that do not say whether they are injected, and pods without a proxy",
        codes: &[
            Code::NamespaceNotInjected,
            Code::PodMissingProxy,
            Code::NamespaceMultipleInjectionLabels,
            Code::NamespaceInjectionEnabledByDefault,
        ],
        run: |index, findings| {
            injection::namespaces(index, findings);
            injection::pods(index, findings);
        },
    },
    Analyzer {
        name: "injection.ImageAnalyzer",
        about: "Proxies of other images than the injector gives",
        codes: &[Code::PodsIstioProxyImageMismatchInNamespace],
        run: injection::images,
    },
    Analyzer {
        name: "injection.ImageAutoAnalyzer",
        about: "Images that the injector was to replace",
        codes: &[
            Code::ImageAutoWithoutInjectionWarning,
            Code::ImageAutoWithoutInjectionError,
        ],
        run: injection::auto,
    },
    Analyzer {
        name: "k8sgateway.CRDVersionAnalyzer",
        about: "Definitions of the Gateway API that are too old",
        codes: &[Code::GatewayAPICRDVersionBelowMinimum],
        run: crds::check,
    },
    Analyzer {
        name: "k8sgateway.SelectorAnalyzer",
        about: "Policies that select gateways of the Gateway API by label",
        codes: &[Code::IneffectiveSelector],
        run: authz::of_gateways,
    },
    Analyzer {
        name: "multicluster.MeshNetworksAnalyzer",
        about: "Clusters that the mesh's networks name",
        codes: &[Code::UnknownMeshNetworksServiceRegistry],
        run: mesh_networks::check,
    },
    Analyzer {
        name: "multicluster.ServiceAnalyzer",
        about: "Services that other clusters of the mesh have otherwise",
        codes: &[Code::MultiClusterInconsistentService],
        run: multicluster::services,
    },
    Analyzer {
        name: "schemaValidation.CollectionValidationAnalyzer",
        about: "Each object by itself, and rules of VirtualServices that nothing comes to",
        codes: &[
            Code::SchemaValidationError,
            Code::SchemaWarning,
            Code::VirtualServiceUnreachableRule,
            Code::VirtualServiceIneffectiveMatch,
        ],
        run: schema::check,
    },
    Analyzer {
        name: "service.PortNameAnalyzer",
        about: "Ports of Services that do not say what they speak",
        codes: &[
            Code::PortNameIsNotUnderNamingConvention,
            Code::ExternalNameServiceTypeInvalidPortName,
        ],
        run: service::port_names,
    },
    Analyzer {
        name: "serviceentry.ProtocolAddressesAnalyzer",
        about: "TCP ports of ServiceEntries without addresses",
        codes: &[Code::ServiceEntryAddressesRequired],
        run: service_entry::addresses,
    },
    Analyzer {
        name: "serviceentry.ConflictingProtocolAnalyzer",
        about: "ServiceEntries that say different things of one port of a host",
        codes: &[Code::ConflictingServiceEntryProtocol],
        run: service_entry::protocols,
    },
    Analyzer {
        name: "sidecar.SelectorAnalyzer",
        about: "Sidecars that contradict each other, select nothing, or have no effect",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::ConflictingSidecarWorkloadSelectors,
            Code::MultipleSidecarsWithoutWorkloadSelectors,
            Code::IneffectivePolicy,
        ],
        run: sidecar::check,
    },
    Analyzer {
        name: "telemetry.LightstepAnalyzer",
        about: "Tracing by a provider that is no longer there",
        codes: &[Code::Deprecated],
        run: telemetry::lightstep,
    },
    Analyzer {
        name: "telemetry.ProviderAnalyzer",
        about: "Access logs that go nowhere",
        codes: &[Code::InvalidTelemetryProvider],
        run: telemetry::providers,
    },
    Analyzer {
        name: "telemetry.SelectorAnalyzer",
        about: "Telemetries that contradict each other",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::ConflictingTelemetryWorkloadSelectors,
            Code::MultipleTelemetriesWithoutWorkloadSelectors,
        ],
        run: telemetry::selectors,
    },
    Analyzer {
        name: "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        about: "Hosts that several VirtualServices have within the mesh",
        codes: &[Code::ConflictingMeshGatewayVirtualServiceHosts],
        run: virtual_service::conflicting_hosts,
    },
    Analyzer {
        name: "virtualservice.DestinationHostAnalyzer",
        about: "Destinations that are not there, or whose port is not said",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::VirtualServiceDestinationPortSelectorRequired,
            Code::IngressRouteRulesNotAffected,
        ],
        run: virtual_service::destination_hosts,
    },
    Analyzer {
        name: "virtualservice.DestinationRuleAnalyzer",
        about: "Subsets that no DestinationRule defines",
        codes: &[Code::ReferencedResourceNotFound],
        run: virtual_service::destination_subsets,
    },
    Analyzer {
        name: "virtualservice.GatewayAnalyzer",
        about: "Gateways that VirtualServices name, and their hosts",
        codes: &[
            Code::ReferencedResourceNotFound,
            Code::VirtualServiceHostNotFoundInGateway,
            Code::ReferencedInternalGateway,
        ],
        run: virtual_service::gateway_references,
    },
    Analyzer {
        name: "virtualservice.JWTClaimRouteAnalyzer",
        about: "Routes by claims of tokens that nobody verifies",
        codes: &[Code::JwtClaimBasedRoutingWithoutRequestAuthN],
        run: jwt::check,
    },
    Analyzer {
        name: "webhook.Analyzer",
        about: "Webhooks that call nobody, or that are called for one pod both",
        codes: &[Code::InvalidWebhook],
        run: webhook::check,
    },
];

/// Those that are asked for by name, before the mesh is installed or upgraded: of a mesh that runs they
/// would say too much.
pub const PRECHECKS: &[Analyzer] = &[
    Analyzer {
        name: "annotations.AlphaAnalyzer",
        about: "Annotations that later versions may read otherwise",
        codes: &[Code::AlphaAnnotation],
        run: maturity::check,
    },
    Analyzer {
        name: "k8sgateway.ServedVersionAnalyzer",
        about: "Definitions of the Gateway API of which no version is read",
        codes: &[Code::UnsupportedGatewayAPIVersion],
        run: crds::served,
    },
    Analyzer {
        name: "upgrade.CompatibilityAnalyzer",
        about: "Objects that did something else under an earlier release of Istio",
        codes: &[Code::UpdateIncompatibility],
        run: upgrade::check,
    },
];
