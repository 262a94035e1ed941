//! Codes that the public cases do not have, one by one.

use super::{Settings, check, check_with, read};
use serde_json::json;

/// An object in one line.
fn object(api: &str, kind: &str, meta: &str, rest: &str) -> String {
    format!("---\napiVersion: {api}\nkind: {kind}\nmetadata: {{{meta}}}\n{rest}\n")
}

fn net(kind: &str, meta: &str, spec: &str) -> String {
    object(
        "networking.istio.io/v1",
        kind,
        meta,
        &format!("spec: {spec}"),
    )
}

fn namespace(name: &str, labels: &str) -> String {
    object(
        "v1",
        "Namespace",
        &format!("name: {name}, labels: {{{labels}}}"),
        "",
    )
}

#[test]
fn namespaces_say_whether_they_are_injected() {
    let of = "injection.Analyzer";
    let check = |labels: &str, expect: &[&str]| check(&namespace("a", labels), of, expect);
    check("", &["IST0102 Namespace a metadata.labels"]);
    check("istio-injection: enabled", &[]);
    check("istio-injection: disabled", &[]);
    check("istio.io/rev: canary", &[]);
    check("istio.io/dataplane-mode: ambient", &[]);
    let both = "istio-injection: enabled, istio.io/rev: canary";
    check(both, &["IST0123 Namespace a metadata.labels"]);
    super::check(&namespace("kube-system", ""), of, &[]);
    let injector = object(
        "v1",
        "ConfigMap",
        "name: istio-sidecar-injector, namespace: istio-system",
        "data: {values: '{\"sidecarInjectorWebhook\":{\"enableNamespacesByDefault\":true}}'}",
    );
    let by_default = namespace("a", "") + &injector;
    super::check(&by_default, of, &["IST0148 Namespace a"]);
}

#[test]
fn pods_have_the_proxy_that_is_asked_for() {
    let pod = |meta: &str, spec: &str| {
        let meta = format!("name: p, namespace: a, {meta}");
        let pod = object("v1", "Pod", &meta, &format!("spec: {{{spec}}}"));
        namespace("a", "istio-injection: enabled") + &pod
    };
    let missing: &[&str] = &["IST0103 Pod a/p"];
    let bare = "containers: [{name: c}]";
    for (meta, spec, expect) in [
        ("", bare, missing),
        ("", "containers: [{name: c}, {name: istio-proxy}]", &[]),
        (
            "",
            "containers: [{name: c}], initContainers: [{name: istio-proxy}]",
            &[],
        ),
        ("labels: {sidecar.istio.io/inject: 'false'}", bare, &[]),
        ("annotations: {sidecar.istio.io/inject: 'false'}", bare, &[]),
        ("", "hostNetwork: true, containers: [{name: c}]", &[]),
    ] {
        check(&pod(meta, spec), "injection.Analyzer", expect);
    }
}

#[test]
fn annotations_are_known_and_in_their_place() {
    let of = |kind: &str, annotations: &str| {
        let meta = format!("name: x, namespace: a, annotations: {{{annotations}}}");
        object("v1", kind, &meta, "spec: {}")
    };
    let check = |kind: &str, annotation: &str, value: &str, code: &str| {
        let text = of(kind, &format!("{annotation}: '{value}'"));
        let line = format!("{code} {kind} a/x metadata.annotations[{annotation}]");
        let expect: Vec<&str> = if code.is_empty() { vec![] } else { vec![&line] };
        super::check(&text, "annotations.K8sAnalyzer", &expect);
    };
    check("Pod", "sidecar.istio.io/logLevel", "debug", "");
    check("Pod", "sidecar.istio.io/inject", "true", "IST0135");
    check("Pod", "sidecar.istio.io/logLevl", "debug", "IST0108");
    check("Pod", "example.com/logLevl", "debug", "");
    check("Service", "sidecar.istio.io/logLevel", "debug", "IST0107");
    check("Service", "networking.istio.io/exportTo", ".", "");
    check("Pod", "networking.istio.io/exportTo", ".", "IST0107");
    check(
        "Pod",
        "traffic.sidecar.istio.io/includeInboundPorts",
        "80,443",
        "",
    );
    check(
        "Pod",
        "traffic.sidecar.istio.io/includeInboundPorts",
        "80,web",
        "IST0125",
    );
    check(
        "Pod",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "10.0.0.0/8",
        "",
    );
    check(
        "Pod",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "10.0/8",
        "IST0125",
    );
    check("Pod", "sidecar.istio.io/interceptionMode", "TUN", "IST0125");
    check(
        "Pod",
        "sidecar.istio.io/rewriteAppHTTPProbers",
        "yes",
        "IST0125",
    );
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: a, \
        annotations: {sidecar.istio.io/logLevel: debug}}\nspec: {template: {metadata: {annotations: \
        {sidecar.istio.io/logLevel: debug, proxy.istio.io/cnfig: ''}}}}\n";
    super::check(
        deployment,
        "annotations.K8sAnalyzer",
        &[
            "IST0107 Deployment a/d metadata.annotations[sidecar.istio.io/logLevel]",
            "IST0108 Deployment a/d spec.template.metadata.annotations[proxy.istio.io/cnfig]",
        ],
    );
}

#[test]
fn destinations_are_there() {
    let of = "virtualservice.DestinationHostAnalyzer";
    let to = |destination: &str| {
        let spec = format!("{{hosts: [a], http: [{{route: [{{destination: {destination}}}]}}]}}");
        net("VirtualService", "name: v, namespace: a", &spec)
    };
    let service = |ports: &str, annotations: &str| {
        let meta = format!("name: s, namespace: b, annotations: {{{annotations}}}");
        object(
            "v1",
            "Service",
            &meta,
            &format!("spec: {{ports: [{ports}]}}"),
        )
    };
    let at = "VirtualService a/v spec.http[0].route[0].destination";
    let (missing, port) = (format!("IST0101 {at}.host"), format!("IST0112 {at}"));
    let full = "{host: s.b.svc.cluster.local}";
    check(&to("{host: s}"), of, &[&missing]);
    check(
        &(to("{host: s}") + &service("{port: 80}", "")),
        of,
        &[&missing],
    );
    check(&(to(full) + &service("{port: 80}", "")), of, &[]);
    check(
        &(to(full) + &service("{port: 80}", "networking.istio.io/exportTo: .")),
        of,
        &[&missing],
    );
    let two = service("{port: 80}, {port: 81}", "");
    check(&(to(full) + &two), of, &[&port]);
    check(
        &(to("{host: s.b.svc.cluster.local, port: {number: 80}}") + &two),
        of,
        &[],
    );
    let entry = |host: &str, more: &str| {
        net(
            "ServiceEntry",
            "name: e, namespace: c",
            &format!("{{hosts: ['{host}'], {more}}}"),
        )
    };
    let out = to("{host: api.example.com}");
    check(&(out.clone() + &entry("api.example.com", "")), of, &[]);
    check(&(out.clone() + &entry("*.example.com", "")), of, &[]);
    check(
        &(out.clone() + &entry("*.example.org", "")),
        of,
        &[&missing],
    );
    check(
        &(out + &entry("api.example.com", "exportTo: ['.']")),
        of,
        &[&missing],
    );
    let mirrors = net(
        "VirtualService",
        "name: v, namespace: a",
        "{hosts: [a], tcp: [{route: [{destination: {host: t}}]}], http: [{mirrors: [{destination: {host: m}}]}]}",
    );
    let found = [
        "IST0101 VirtualService a/v spec.http[0].mirrors[0].destination.host",
        "IST0101 VirtualService a/v spec.tcp[0].route[0].destination.host",
    ];
    check(&mirrors, of, &found);
}

#[test]
fn claims_need_tokens_that_are_verified() {
    let of = "virtualservice.JWTClaimRouteAnalyzer";
    let route = net(
        "VirtualService",
        "name: v, namespace: a",
        "{hosts: [a], gateways: [g], http: [{match: [{headers: {'@request.auth.claims.group': {exact: x}}}]}]}",
    );
    let gateway = net("Gateway", "name: g, namespace: a", "{selector: {app: gw}}");
    let pod = object(
        "v1",
        "Pod",
        "name: p, namespace: i, labels: {app: gw}",
        "spec: {}",
    );
    let policy = |namespace: &str, spec: &str| {
        let meta = format!("name: r, namespace: {namespace}");
        object(
            "security.istio.io/v1",
            "RequestAuthentication",
            &meta,
            &format!("spec: {spec}"),
        )
    };
    let all = route + &gateway + &pod;
    let missing = ["IST0149 VirtualService a/v spec.http[0].match[0].headers"];
    check(&all, of, &missing);
    check(
        &(all.clone() + &policy("i", "{selector: {matchLabels: {app: gw}}}")),
        of,
        &[],
    );
    check(&(all.clone() + &policy("istio-system", "{}")), of, &[]);
    check(&(all.clone() + &policy("a", "{}")), of, &missing);
    check(
        &(all + &policy("i", "{selector: {matchLabels: {app: other}}}")),
        of,
        &missing,
    );
}

#[test]
fn gateways_have_pods_and_certificates() {
    let gateway = net(
        "Gateway",
        "name: g, namespace: a",
        "{selector: {app: gw}, servers: [{port: {number: 443}, hosts: [h], tls: {credentialName: c}}]}",
    );
    let ports = "gateway.IngressGatewayPortAnalyzer";
    check(&gateway, ports, &["IST0101 Gateway a/g spec.selector"]);
    let pod = object(
        "v1",
        "Pod",
        "name: p, namespace: i, labels: {app: gw}",
        "spec: {}",
    );
    let all = gateway + &pod;
    check(&all, ports, &[]);
    let of = "gateway.SecretAnalyzer";
    let at = "Gateway a/g spec.servers[0].tls.credentialName";
    check(&all, of, &[&format!("IST0101 {at}")]);
    let secret = |namespace: &str, data: &str| {
        let meta = format!("name: c, namespace: {namespace}");
        object("v1", "Secret", &meta, &format!("stringData: {data}"))
    };
    let good = "{tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}";
    check(&(all.clone() + &secret("i", good)), of, &[]);
    check(
        &(all.clone() + &secret("a", good)),
        of,
        &[&format!("IST0101 {at}")],
    );
    check(
        &(all.clone() + &secret("i", "{tls.crt: x, tls.key: y}")),
        of,
        &[&format!("IST0161 {at}")],
    );
    check(
        &(all + &secret("i", "{other: x}")),
        of,
        &[&format!("IST0161 {at}")],
    );
}

#[test]
fn hosts_are_at_their_gateways() {
    let of = "virtualservice.GatewayAnalyzer";
    let gateway = net(
        "Gateway",
        "name: g, namespace: a",
        "{servers: [{hosts: ['*.example.com', 'b/other.org']}]}",
    );
    let check = |namespace: &str, gateways: &str, hosts: &str, expect: &[&str]| {
        let meta = format!("name: v, namespace: {namespace}");
        let spec = format!("{{gateways: [{gateways}], hosts: [{hosts}]}}");
        check(
            &(gateway.clone() + &net("VirtualService", &meta, &spec)),
            of,
            expect,
        );
    };
    check("a", "g", "x.example.com", &[]);
    check("a", "g", "'*.x.example.com'", &[]);
    check(
        "a",
        "g",
        "other.org",
        &["IST0132 VirtualService a/v spec.hosts[0]"],
    );
    check("b", "a/g", "other.org", &[]);
    let second = ["IST0132 VirtualService a/v spec.hosts[1]"];
    check("a", "g", "x.example.com, one, two", &second);
    check("a", "'mesh', g", "x.example.com, one", &[]);
    check(
        "a",
        "mesh, g",
        "one",
        &["IST0132 VirtualService a/v spec.hosts[0]"],
    );
}

#[test]
fn one_protocol_of_a_port_of_a_host() {
    let of = "serviceentry.ConflictingProtocolAnalyzer";
    let entry = |name: &str, namespace: &str, protocol: &str, more: &str| {
        let meta = format!("name: {name}, namespace: {namespace}");
        let ports = format!("ports: [{{number: 443, name: p, protocol: {protocol}}}]");
        net(
            "ServiceEntry",
            &meta,
            &format!("{{hosts: [h.example], {ports}, {more}}}"),
        )
    };
    let conflict = [
        "IST0177 ServiceEntry a/one spec.ports[0].protocol",
        "IST0177 ServiceEntry b/two spec.ports[0].protocol",
    ];
    let one = entry("one", "a", "TLS", "");
    check(
        &(one.clone() + &entry("two", "b", "HTTP", "")),
        of,
        &conflict,
    );
    check(&(one.clone() + &entry("two", "b", "tls", "")), of, &[]);
    let own = "exportTo: ['.']";
    check(&(one + &entry("two", "b", "HTTP", own)), of, &conflict);
    let one = entry("one", "a", "TLS", own);
    check(&(one + &entry("two", "b", "HTTP", own)), of, &[]);
}

#[test]
fn telemetries_have_providers_and_workloads_of_their_own() {
    let telemetry = |name: &str, spec: &str| {
        let meta = format!("name: {name}, namespace: a");
        object(
            "telemetry.istio.io/v1",
            "Telemetry",
            &meta,
            &format!("spec: {spec}"),
        )
    };
    let of = "telemetry.SelectorAnalyzer";
    let two = telemetry("t1", "{}") + &telemetry("t2", "{}");
    check(
        &two,
        of,
        &["IST0160 Telemetry a/t1", "IST0160 Telemetry a/t2"],
    );
    let selecting = |name: &str| telemetry(name, "{selector: {matchLabels: {app: p}}}");
    let at = "spec.selector.matchLabels";
    check(
        &selecting("t1"),
        of,
        &[&format!("IST0101 Telemetry a/t1 {at}")],
    );
    let pod = object(
        "v1",
        "Pod",
        "name: p, namespace: a, labels: {app: p}",
        "spec: {}",
    );
    check(&(selecting("t1") + &pod), of, &[]);
    let (one, two) = (
        format!("IST0159 Telemetry a/t1 {at}"),
        format!("IST0159 Telemetry a/t2 {at}"),
    );
    check(
        &(selecting("t1") + &selecting("t2") + &pod),
        of,
        &[&one, &two],
    );

    let of = "telemetry.ProviderAnalyzer";
    let at = ["IST0157 Telemetry a/t1 spec.accessLogging[0].providers"];
    let logging = |providers: &str| {
        telemetry(
            "t1",
            &format!("{{accessLogging: [{{providers: [{providers}]}}]}}"),
        )
    };
    check(&logging(""), of, &at);
    check(&logging("{name: envoy}"), of, &[]);
    check(&logging("{name: mine}"), of, &at);
    let mesh = |mesh: serde_json::Value| Settings {
        mesh,
        ..Settings::default()
    };
    let with_default = mesh(json!({"defaultProviders": {"accessLogging": ["envoy"]}}));
    check_with(&logging(""), of, with_default, &[]);
    let with_mine = mesh(json!({"extensionProviders": [{"name": "mine"}]}));
    check_with(&logging("{name: mine}"), of, with_mine, &[]);
}

#[test]
fn webhooks_call_somebody_and_only_one() {
    let hook = |name: &str, label: &str| {
        let hook = format!(
            "webhooks: [{{name: namespace.sidecar-injector.istio.io, clientConfig: {{service: {{name: istiod, \
             namespace: istio-system}}}}, namespaceSelector: {{matchLabels: {{{label}}}}}}}]"
        );
        let api = "admissionregistration.k8s.io/v1";
        object(
            api,
            "MutatingWebhookConfiguration",
            &format!("name: {name}"),
            &hook,
        )
    };
    let of = "webhook.Analyzer";
    let enabled = "istio-injection: enabled";
    let service = |name: &str| {
        object(
            "v1",
            "Service",
            &format!("name: {name}, namespace: istio-system"),
            "spec: {}",
        )
    };
    check(&(hook("a", enabled) + &service("istiod")), of, &[]);
    let at = "MutatingWebhookConfiguration a webhooks[0].clientConfig.service";
    check(
        &(hook("a", enabled) + &service("other")),
        of,
        &[&format!("IST0139 {at}")],
    );
    let twice = hook("a", enabled) + &hook("b", enabled);
    let both = [
        "IST0139 MutatingWebhookConfiguration a webhooks[0]",
        "IST0139 MutatingWebhookConfiguration b webhooks[0]",
    ];
    check(&twice, of, &both);
    let apart = hook("a", enabled) + &hook("b", "istio-injection: other");
    check(&apart, of, &[]);
}

#[test]
fn statuses_are_heard() {
    let of = "conditions.ConditionAnalyzer";
    let text = |status: &str| {
        let api = "gateway.networking.k8s.io/v1";
        object(
            api,
            "HTTPRoute",
            "name: r, namespace: a",
            &format!("status: {status}"),
        )
    };
    let condition = |kind: &str, status: &str| format!("{{type: {kind}, status: '{status}'}}");
    let parents = |condition: &str| format!("{{parents: [{{conditions: [{condition}]}}]}}");
    let at = ["IST0171 HTTPRoute a/r status.parents[0].conditions[0]"];
    check(&text(&parents(&condition("Accepted", "False"))), of, &at);
    check(&text(&parents(&condition("Accepted", "True"))), of, &[]);
    check(&text(&parents(&condition("Conflicted", "False"))), of, &[]);
}

#[test]
fn names_of_other_hosts_have_ports_too() {
    let of = "service.PortNameAnalyzer";
    let service = |name: &str| {
        let spec = format!("spec: {{type: ExternalName, ports: [{{name: {name}, port: 80}}]}}");
        object("v1", "Service", "name: s, namespace: a", &spec)
    };
    check(&service("web"), of, &["IST0150 Service a/s spec.ports[0]"]);
    check(&service("tcp"), of, &["IST0150 Service a/s spec.ports[0]"]);
    check(&service("http"), of, &[]);
}

#[test]
fn patches_that_remove_nothing() {
    let of = "envoyfilter.EnvoyPatchAnalyzer";
    let filter = |place: &str| {
        let spec = format!(
            "spec: {{configPatches: [{{applyTo: {place}, patch: {{operation: REMOVE}}}}]}}"
        );
        object(
            "networking.istio.io/v1alpha3",
            "EnvoyFilter",
            "name: f, namespace: a",
            &spec,
        )
    };
    let at = ["IST0154 EnvoyFilter a/f spec.configPatches[0].patch.operation"];
    check(&filter("ROUTE_CONFIGURATION"), of, &at);
    check(&filter("HTTP_FILTER"), of, &[]);
}

#[test]
fn objects_are_judged_by_themselves() {
    let of = "schemaValidation.CollectionValidationAnalyzer";
    let rule = |spec: &str| net("DestinationRule", "name: d, namespace: a", spec);
    check(&rule("{host: h}"), of, &[]);
    check(
        &rule("{hots: h, host: h}"),
        of,
        &["IST0106 DestinationRule a/d spec.hots"],
    );
    let gateway = net(
        "Gateway",
        "name: g, namespace: a",
        "{selector: {a: b}, servers: [{hosts: [h], defaultEndpoint: '127.0.0.1:80', port: {number: 80, name: a, protocol: HTTP}}]}",
    );
    check(
        &gateway,
        of,
        &["IST0133 Gateway a/g spec.servers[0].defaultEndpoint"],
    );
}

#[test]
fn fields_of_old_are_named() {
    let of = "deprecation.FieldAnalyzer";
    let rule = |policy: &str| {
        let spec =
            format!("{{host: h, trafficPolicy: {policy}, subsets: [{{trafficPolicy: {policy}}}]}}");
        net("DestinationRule", "name: d, namespace: a", &spec)
    };
    let check = |policy: &str, field: &str| {
        let lines = ["spec.subsets[0].trafficPolicy", "spec.trafficPolicy"]
            .map(|at| format!("IST0002 DestinationRule a/d {at}.{field}"));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let expect = if field.is_empty() {
            &[][..]
        } else {
            &lines[..]
        };
        super::check(&rule(policy), of, expect);
    };
    check(
        "{outlierDetection: {consecutiveErrors: 5}}",
        "outlierDetection.consecutiveErrors",
    );
    check(
        "{loadBalancer: {simple: LEAST_CONN}}",
        "loadBalancer.simple",
    );
    check("{loadBalancer: {simple: LEAST_REQUEST}}", "");
}

#[test]
fn addresses_of_control_planes_outside_are_names() {
    let of = "externalcontrolplane.ExternalControlPlaneAnalyzer";
    let hook = |client: &str| {
        let hooks = format!("webhooks: [{{name: x.istio.io, clientConfig: {{{client}}}}}]");
        let api = "admissionregistration.k8s.io/v1";
        object(
            api,
            "MutatingWebhookConfiguration",
            "name: istio-sidecar-injector",
            &hooks,
        )
    };
    let at = "MutatingWebhookConfiguration istio-sidecar-injector webhooks[0].clientConfig.url";
    check(
        &hook("url: 'https://10.0.0.1:15017/inject'"),
        of,
        &[&format!("IST0164 {at}")],
    );
    check(
        &hook("url: 'https://[fd00::1]:15017/inject'"),
        of,
        &[&format!("IST0164 {at}")],
    );
    check(&hook("url: 'https://plane.example/inject'"), of, &[]);
    check(&hook("service: {name: istiod}"), of, &[]);
    check(&hook("url: nothing"), of, &[&format!("IST0163 {at}")]);
}

#[test]
fn services_of_several_clusters_must_be_alike() {
    let of = "multicluster.ServiceAnalyzer";
    let service = |spec: &str| object("v1", "Service", "name: s, namespace: a", spec);
    let own = "spec: {type: ClusterIP, ports: [{name: http, port: 80}]}";
    let check = |other: &str, expect: &[&str]| {
        let elsewhere = service(other) + &net("VirtualService", "name: s, namespace: a", "{}");
        let settings = Settings {
            cluster: "west".to_owned(),
            others: vec![("east".to_owned(), read("east.yaml", &elsewhere).into())],
            ..Settings::default()
        };
        check_with(&service(own), of, settings, expect);
    };
    let found: &[&str] = &["IST0170 Service a/s spec"];
    check(own, &[]);
    // What a cluster fills in is no difference.
    check(
        "spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80, targetPort: 80, protocol: TCP}]}",
        &[],
    );
    check("spec: {ports: [{name: http, port: 81}]}", found);
    check(
        "spec: {ports: [{name: http, port: 80, targetPort: 8080}]}",
        found,
    );
    check(
        "spec: {type: LoadBalancer, ports: [{name: http, port: 80}]}",
        found,
    );
    check(
        "spec: {clusterIP: None, ports: [{name: http, port: 80}]}",
        found,
    );
    super::check(&service(own), of, &[]);
}

#[test]
fn annotations_that_may_change_are_told_before_an_upgrade() {
    let of = "annotations.AlphaAnalyzer";
    let pod = |annotation: &str, init: &str| {
        let meta = format!("name: p, namespace: a, annotations: {{{annotation}}}");
        let spec = format!("spec: {{containers: [{{name: c}}], initContainers: [{init}]}}");
        object("v1", "Pod", &meta, &spec)
    };
    let cpu = "sidecar.istio.io/proxyCPU: 100m";
    let found = ["IST0136 Pod a/p metadata.annotations[sidecar.istio.io/proxyCPU]"];
    check(&pod(cpu, ""), of, &found);
    check(&pod("proxy.istio.io/config: '{}'", ""), of, &[]);
    check(&pod("sidecar.istio.io/status: '{}'", ""), of, &[]);
    check(&pod("example.com/a: b", ""), of, &[]);
    let mode = "sidecar.istio.io/interceptionMode: TPROXY";
    let found = ["IST0136 Pod a/p metadata.annotations[sidecar.istio.io/interceptionMode]"];
    check(&pod(mode, "{name: istio-init}"), of, &found);
    check(&pod(mode, ""), of, &[]);
}

#[test]
fn definitions_of_the_gateway_api_serve_what_is_read() {
    let of = "k8sgateway.ServedVersionAnalyzer";
    let definition = |kind: &str, version: &str, served: bool| {
        let spec = format!(
            "spec: {{group: gateway.networking.k8s.io, names: {{kind: {kind}, plural: x}}, \
             versions: [{{name: {version}, served: {served}}}]}}"
        );
        object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "name: x.gateway.networking.k8s.io",
            &spec,
        )
    };
    let found = ["IST0156 CustomResourceDefinition x.gateway.networking.k8s.io spec.versions"];
    check(&definition("Gateway", "v1alpha2", true), of, &found);
    check(&definition("Gateway", "v1", false), of, &found);
    check(&definition("Gateway", "v1", true), of, &[]);
    check(&definition("ReferenceGrant", "v1beta1", true), of, &[]);
    check(&definition("TCPRoute", "v1alpha2", true), of, &[]);
}

#[test]
fn what_earlier_releases_did_otherwise_is_told() {
    let of = "upgrade.CompatibilityAnalyzer";
    let check = |documents: &str, from: u32, expect: &[&str]| {
        let settings = Settings {
            from_minor: Some(from),
            mesh: json!({"discoverySelectors": [{"matchLabels": {"a": "b"}}]}),
            ..Settings::default()
        };
        check_with(documents, of, settings, expect);
    };
    let meta = "name: o, namespace: a";
    let alias = object(
        "v1",
        "Service",
        meta,
        "spec: {type: ExternalName, externalName: b}",
    );
    check(&alias, 20, &["IST0169 Service a/o"]);
    check(&alias, 21, &[]);
    let tls = |tls: &str| {
        net(
            "DestinationRule",
            meta,
            &format!("{{host: h, trafficPolicy: {tls}}}"),
        )
    };
    let rule = ["IST0169 DestinationRule a/o"];
    check(&tls("{tls: {mode: SIMPLE}}"), 20, &rule);
    check(&tls("{tls: {mode: SIMPLE, sni: h}}"), 20, &[]);
    check(&tls("{tls: {mode: SIMPLE, sni: h}}"), 21, &rule);
    check(
        &tls("{portLevelSettings: [{tls: {mode: MUTUAL}}]}"),
        22,
        &rule,
    );
    check(&tls("{tls: {mode: SIMPLE, caCertificates: /r}}"), 22, &[]);
    check(&tls("{tls: {mode: ISTIO_MUTUAL}}"), 22, &[]);
    let hosts = |host: &str| net("VirtualService", meta, &format!("{{hosts: ['{host}']}}"));
    check(&hosts("*.b"), 19, &["IST0169 VirtualService a/o"]);
    check(&hosts("a.b"), 19, &[]);
    check(&hosts("*.b"), 24, &[]);
    let entry = net(
        "ServiceEntry",
        meta,
        "{resolution: NONE, ports: [{number: 80, targetPort: 81}]}",
    );
    check(&entry, 22, &["IST0169 ServiceEntry a/o"]);
    check(&entry, 21, &[]);
    check(
        &namespace("istio-system", ""),
        21,
        &["IST0169 Namespace istio-system"],
    );
    check(&namespace("istio-system", ""), 22, &[]);
    let zipkin = object(
        "v1",
        "Service",
        "name: zipkin, namespace: istio-system",
        "spec: {}",
    );
    check(&zipkin, 21, &["IST0169 Service istio-system/zipkin"]);
    // Nobody says where they come from.
    super::check(&alias, of, &[]);
    assert_eq!(super::untold_changes(21, "DestinationRule").len(), 1);
    assert_eq!(super::untold_changes(21, "Pod").len(), 0);
}
