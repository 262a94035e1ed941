use std::path::PathBuf;

use lateen_testkit::conformance;
use serde_json::Value;

use super::validate;
use crate::fault::describe;

fn documents(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("file is readable");
    // An unquoted address that ends in a colon is a key to YAML 1.2, and a text to Go's parser.
    let text = text.replace("001:db8::]", "\"001:db8::\"]");
    let documents = serde_saphyr::from_multiple::<Value>(&text);
    let documents = documents.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

fn yaml_files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&folder).expect("folder is readable");
    let mut files: Vec<_> = entries.map(|e| e.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files
}

#[test]
fn conformance_documents_are_judged_as_expected() {
    let Some(folder) = conformance("validation") else {
        return;
    };
    let (mut valid, mut invalid, mut wrong) = (0, 0, Vec::new());
    for path in yaml_files(folder) {
        for (n, mut document) in documents(&path).into_iter().enumerate() {
            let cause = document
                .as_object_mut()
                .and_then(|map| map.shift_remove("_err"));
            let cause = cause.as_ref().and_then(Value::as_str);
            let found = describe(&validate(&document));
            let name = format!("{} #{n}", path.file_name().unwrap_or_default().display());
            match cause {
                None if found.is_empty() => valid += 1,
                None => wrong.push(format!("{name} is valid, but: {found}")),
                // Our "field: reason" has a colon where theirs may have a space.
                Some(cause)
                    if found.contains(cause) || found.replace(": ", " ").contains(cause) =>
                {
                    invalid += 1
                }
                Some(cause) => wrong.push(format!("{name} wants {cause:?}, got: {found}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // An empty folder judges nothing.
    assert!(
        valid > 10 && invalid > 20,
        "{valid} valid, {invalid} invalid"
    );
}

#[test]
fn networking_samples_are_accepted() {
    let Some(folder) = conformance("samples/bookinfo/networking") else {
        return;
    };
    let mut n_documents = 0;
    for path in yaml_files(folder) {
        for document in documents(&path) {
            let found = describe(&validate(&document));
            assert!(found.is_empty(), "{}: {found}", path.display());
            n_documents += 1;
        }
    }
    assert!(n_documents > 0);
}

fn check(yaml: &str, expect: &[&str]) {
    let document: Value = serde_saphyr::from_str(yaml).expect("test YAML");
    let found: Vec<String> = validate(&document)
        .into_iter()
        .map(|f| format!("{}: {}", f.field, f.reason))
        .collect();
    assert_eq!(found, expect, "{yaml}");
}

fn virtual_service(routes: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: b}}\n\
         spec:\n  hosts: [reviews]\n{routes}"
    )
}

#[test]
fn virtual_services_of_one_fault() {
    for (routes, expect) in [
        (
            "  http: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]}]",
            "spec.http[0].route: total destination weight is 0",
        ),
        (
            "  http: [{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 2}]}]",
            "spec.http[0].route[0].weight: weight -1 must not be negative",
        ),
        (
            "  gateways: [\"a/b/c\"]\n  http: [{route: [{destination: {host: a}}]}]",
            "spec.gateways[0]: \"a/b/c\" is not a gateway's name",
        ),
        (
            "  http: [{match: [{uri: {regex: \"a[\"}}], route: [{destination: {host: a}}]}]",
            "spec.http[0].match[0].uri.regex: invalid regex \"a[\": unclosed character class",
        ),
        (
            "  http: [{}]",
            "spec.http[0]: HTTP route has no destination",
        ),
        (
            "  http: []",
            "spec: no routes: http, tls and tcp are all empty",
        ),
        (
            "  http: [{redirect: {uri: /}, route: [{destination: {host: a}}]}]",
            "spec.http[0]: HTTP route cannot have route and redirect together",
        ),
        (
            "  http: [{fault: {delay: {fixedDelay: 5s, percentage: {value: 101}}}, route: [{destination: {host: a}}]}]",
            "spec.http[0].fault.delay.percentage.value: percentage 101 is out of range",
        ),
        (
            "  http: [{retries: {attempts: 1, retryOn: \"5xx,never\"}, route: [{destination: {host: a}}]}]",
            "spec.http[0].retries.retryOn: \"never\" is not a retry condition",
        ),
        (
            "  http: [{match: [{headers: {\"a b\": {exact: x}}}], route: [{destination: {host: a}}]}]",
            "spec.http[0].match[0].headers[a b]: \"a b\" is not a header name",
        ),
        (
            "  http: [{timeout: 5, route: [{destination: {host: a}}]}]",
            "spec.http[0].timeout: is a number",
        ),
        (
            "  http: [{route: [{destination: {}}]}]",
            "spec.http[0].route[0].destination.host: destination has no host",
        ),
        (
            "  http: [{route: [{destination: {host: a, port: {number: 70000}}}]}]",
            "spec.http[0].route[0].destination.port.number: port must be between 1-65535",
        ),
        (
            "  tls: [{match: [{sniHosts: [other]}], route: [{destination: {host: a}}]}]",
            "spec.tls[0].match[0].sniHosts[0]: other is not one of the hosts",
        ),
    ] {
        check(&virtual_service(routes), &[expect]);
    }
}

#[test]
fn all_faults_at_once() {
    check(
        &virtual_service("  http: [{route: [{destination: {host: \"*\"}}], tmieout: 1s}, {}]"),
        &[
            "spec.http[0].tmieout: unknown field",
            "spec.http[0].route[0].destination.host: destination host \"*\" is a wildcard",
            "spec.http[1]: HTTP route has no destination",
        ],
    );
}

#[test]
fn destination_rules() {
    let rule = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec: {spec}"
        )
    };
    check(&rule("{subsets: []}"), &["spec.host: Required value"]);
    check(
        &rule("{host: a, subsets: [{name: v1}, {name: v1, labels: {version: v1}}]}"),
        &[
            "spec.subsets[0].labels: a subset without labels and trafficPolicy is the whole service",
            "spec.subsets[1].name: Duplicate value: \"v1\"",
        ],
    );
    check(
        &rule("{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}"),
        &[
            "spec.trafficPolicy.tls.clientCertificate: Required value",
            "spec.trafficPolicy.tls.privateKey: Required value",
        ],
    );
    let zones = |setting: &str| {
        rule(&format!(
            "{{host: a, trafficPolicy: {{loadBalancer: {{zoneAwareLbSetting: {setting}}}}}}}"
        ))
    };
    let at = "spec.trafficPolicy.loadBalancer";
    check(
        &zones("{minClusterSize: 1, failover: [{from: a, to: b}], failoverPriority: [v, 'w=1']}"),
        &[],
    );
    check(
        &zones(
            "{failover: [{from: a, to: a}, {from: a/b, to: '*'}], \
             failoverPriority: [topology.kubernetes.io/zone, 'topology.istio.io/subzone=a']}",
        ),
        &[
            &format!(
                "{at}.zoneAwareLbSetting.failoverPriority[0]: must not use topology label \
                 \"topology.kubernetes.io/zone\""
            ),
            &format!(
                "{at}.zoneAwareLbSetting.failoverPriority[1]: must not use topology label \
                 \"topology.istio.io/subzone\""
            ),
            &format!("{at}.zoneAwareLbSetting.failover[0]: from and to are the same region"),
            &format!("{at}.zoneAwareLbSetting.failover[1].from: \"a/b\" is no region"),
            &format!("{at}.zoneAwareLbSetting.failover[1].to: \"*\" is no region"),
        ],
    );
    check(
        &zones("{}, localityLbSetting: {}"),
        &[&format!(
            "{at}: loadBalancer cannot have localityLbSetting and zoneAwareLbSetting together"
        )],
    );
    check(
        &zones("{minClusterSize: 0}"),
        &[&format!(
            "{at}.zoneAwareLbSetting.minClusterSize: 0 is too small"
        )],
    );
    let revoked = |tls: &str| {
        rule(&format!(
            "{{host: a, trafficPolicy: {{tls: {{{tls}, caCrl: /l}}}}}}"
        ))
    };
    check(&revoked("mode: SIMPLE, caCertificates: /r"), &[]);
    check(&revoked("mode: SIMPLE, credentialName: c"), &[]);
    for (tls, reason) in [
        ("mode: SIMPLE", "no server is verified"),
        (
            "mode: SIMPLE, caCertificates: /r, insecureSkipVerify: true",
            "no server is verified",
        ),
        ("mode: DISABLE", "DISABLE is no TLS"),
        ("mode: ISTIO_MUTUAL", "cannot be set with ISTIO_MUTUAL"),
    ] {
        check(
            &revoked(tls),
            &[&format!("spec.trafficPolicy.tls.caCrl: {reason}")],
        );
    }
    check(
        &rule("{host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}"),
        &["spec.trafficPolicy.loadBalancer.simple: Unsupported value: \"FASTEST\""],
    );
}

#[test]
fn gateways() {
    let gateway = |servers: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{selector: {{istio: ingressgateway}}, servers: {servers}}}"
        )
    };
    check(&gateway("[]"), &["spec.servers: Required value"]);
    check(
        &gateway(
            "[{port: {number: 443, name: https, protocol: HTTPS}, hosts: [\"*\"], tls: {mode: SIMPLE}}]",
        ),
        &["spec.servers[0].tls: SIMPLE TLS needs a certificate"],
    );
    let pinned = |mode: &str, pins: &str| {
        gateway(&format!(
            "[{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [\"*\"], \
             tls: {{mode: {mode}, credentialName: c, {pins}}}}}]"
        ))
    };
    let key = format!("verifyCertificateSpki: [{}=]", "A".repeat(43));
    let hash = format!("verifyCertificateHash: [\"{}\"]", "07:".repeat(31) + "07");
    check(&pinned("MUTUAL", &format!("{key}, {hash}")), &[]);
    check(
        &pinned("SIMPLE", &key),
        &["spec.servers[0].tls.verifyCertificateSpki: SIMPLE TLS asks no client for a certificate"],
    );
    check(&pinned("MUTUAL", "caCrl: /lists"), &[]);
    check(
        &pinned("SIMPLE", "caCrl: /lists"),
        &["spec.servers[0].tls.caCrl: SIMPLE TLS asks no client for a certificate"],
    );
    check(
        &pinned(
            "MUTUAL",
            "verifyCertificateHash: [a], verifyCertificateSpki: [b]",
        ),
        &[
            "spec.servers[0].tls.verifyCertificateHash[0]: is no SHA-256",
            "spec.servers[0].tls.verifyCertificateSpki[0]: is no SHA-256",
        ],
    );
    check(
        &gateway(
            "[{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com]}, {port: {number: 80, name: b, protocol: TCP}, hosts: [\"*\"]}]",
        ),
        &["spec.servers[1].port: port 80 is in use by another server for HTTP"],
    );
    check(
        &gateway("[{port: {number: 80, name: a, protocol: GOPHER}}]"),
        &[
            "spec.servers[0].port.protocol: Unsupported value: \"GOPHER\"",
            "spec.servers[0].hosts: Required value",
        ],
    );
}

#[track_caller]
fn check_spec(api_version: &str, kind: &str, cases: &[(&str, &[&str])]) {
    for (spec, expect) in cases {
        let yaml = format!(
            "apiVersion: networking.istio.io/{api_version}\nkind: {kind}\n\
             metadata: {{name: a, namespace: b}}\nspec: {spec}"
        );
        check(&yaml, expect);
    }
}

#[test]
fn sidecars() {
    let egress = "egress: [{hosts: [\"./*\"]}]";
    check_spec(
        "v1",
        "Sidecar",
        &[
            (
                "{egress: [{port: {number: 9080, protocol: HTTP, name: a}, hosts: [\"prod/*\"]}, {hosts: [\"./*\", \"*/a.com\", \"~/*\"]}]}",
                &[],
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: \"127.0.0.1:8080\"}, \
                 {port: {number: 81, protocol: HTTP, name: b}, defaultEndpoint: \"unix:///a.sock\"}]}",
                &[],
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, \
                 defaultEndpoint: \"unix:///etc/./istio/proxy/XDS\"}]}",
                &[
                    "spec.ingress[0].defaultEndpoint: the sockets of the mesh's agent are for the proxy \
                     beside it alone",
                ],
            ),
            ("{}", &["spec: the Sidecar says nothing"]),
            (
                "{egress: [{hosts: [a.com]}]}",
                &["spec.egress[0].hosts[0]: \"a.com\" has no namespace"],
            ),
            (
                "{egress: [{hosts: [\"a b/c\"]}]}",
                &["spec.egress[0].hosts[0]: \"a b\" is not a namespace"],
            ),
            ("{egress: [{}]}", &["spec.egress[0].hosts: Required value"]),
            (
                "{egress: [{hosts: [\"./*\"]}, {port: {number: 80, protocol: HTTP}, hosts: [\"./*\"]}]}",
                &["spec.egress[0]: a listener without port is for all that the others leave"],
            ),
            (
                "{egress: [{bind: 10.0.0.1, hosts: [\"./*\"]}]}",
                &["spec.egress[0].port: Required value"],
            ),
            (
                "{ingress: [{defaultEndpoint: \"10.0.0.1:80\"}]}",
                &[
                    "spec.ingress[0].port: Required value",
                    "spec.ingress[0].defaultEndpoint: 10.0.0.1 is not an address of the application",
                ],
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP}}, {port: {number: 80, protocol: TCP}}]}",
                &["spec.ingress[1].port: port 80 is in use by another listener"],
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}}]}",
                &["spec.ingress[0].tls.mode: ISTIO_MUTUAL is not for a sidecar"],
            ),
            (
                &format!("{{{egress}, outboundTrafficPolicy: {{egressProxy: {{host: a.com}}}}}}"),
                &[
                    "spec.outboundTrafficPolicy.egressProxy: cannot be set with REGISTRY_ONLY",
                    "spec.outboundTrafficPolicy.egressProxy.port: Required value",
                ],
            ),
            (
                &format!("{{{egress}, outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS}}}}"),
                &[],
            ),
            (
                &format!("{{{egress}, workloadSelector: {{labels: {{app: \"a*\"}}}}}}"),
                &["spec.workloadSelector.labels[app]: wildcard is not supported in selector"],
            ),
        ],
    );
}

#[test]
fn workload_groups() {
    let template = "template: {serviceAccount: a, ports: {http: 80}}";
    check_spec(
        "v1",
        "WorkloadGroup",
        &[
            (
                &format!("{{{template}, probe: {{httpGet: {{port: 80, path: /a}}}}}}"),
                &[],
            ),
            ("{}", &["spec.template: Required value"]),
            (
                &format!("{{{template}, probe: {{periodSeconds: -1, exec: {{}}}}}}"),
                &[
                    "spec.probe.periodSeconds: must not be negative",
                    "spec.probe.exec.command: Required value",
                ],
            ),
            (
                &format!(
                    "{{{template}, probe: {{tcpSocket: {{port: 0}}, httpGet: {{port: 80, scheme: FTP}}}}}}"
                ),
                &[
                    "spec.probe: a probe checks in exactly one way",
                    "spec.probe.httpGet.scheme: Unsupported value: \"FTP\"",
                    "spec.probe.tcpSocket.port: port must be between 1-65535",
                ],
            ),
        ],
    );
}

#[test]
fn envoy_filters() {
    check_spec(
        "v1alpha3",
        "EnvoyFilter",
        &[
            (
                "{configPatches: [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND, listener: {portNumber: 80}}, \
                 patch: {operation: INSERT_BEFORE, value: {name: a}}}]}",
                &[],
            ),
            (
                "{workloadLabels: {app: a}, filters: [{filterName: a, filterType: HTTP, filterConfig: {}, \
                 insertPosition: {index: BEFORE, relativeTo: b}}]}",
                &[],
            ),
            (
                "{configPatches: [{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: INSERT_FIRST}}]}",
                &[
                    "spec.configPatches[0].patch.value: Required value",
                    "spec.configPatches[0].patch.operation: INSERT_FIRST has no meaning for CLUSTER",
                    "spec.configPatches[0].match.listener: CLUSTER cannot be matched by it",
                ],
            ),
            (
                "{configPatches: [{}]}",
                &[
                    "spec.configPatches[0].applyTo: Required value",
                    "spec.configPatches[0].patch: Required value",
                ],
            ),
            (
                "{configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: \"1[\"}}, patch: {operation: REMOVE}}]}",
                &[
                    "spec.configPatches[0].match.proxy.proxyVersion: invalid regex \"1[\": unclosed character class",
                ],
            ),
            (
                "{configPatches: [{applyTo: CLUSTERS, patch: {operation: REMOVE}}]}",
                &["spec.configPatches[0].applyTo: Unsupported value: \"CLUSTERS\""],
            ),
            (
                "{filters: [{filterType: HTTP, listenerMatch: {listenerProtocol: TCP}, insertPosition: {index: AFTER}}]}",
                &[
                    "spec.filters[0].filterName: Required value",
                    "spec.filters[0].filterConfig: Required value",
                    "spec.filters[0].listenerMatch.listenerProtocol: a TCP listener has no HTTP filters",
                    "spec.filters[0].insertPosition.relativeTo: Required value",
                ],
            ),
        ],
    );
}

#[test]
fn proxy_configs() {
    check_spec(
        "v1beta1",
        "ProxyConfig",
        &[
            (
                "{concurrency: 0, environmentVariables: {A_B: c}, image: {imageType: distroless}}",
                &[],
            ),
            (
                "{concurrency: -1, environmentVariables: {1A: c}, image: {imageType: a/b}}",
                &[
                    "spec.concurrency: must not be negative",
                    "spec.environmentVariables[1A]: \"1A\" is not the name of a variable",
                    "spec.image.imageType: \"a/b\" cannot be part of an image's tag",
                ],
            ),
            (
                "{selector: {matchLabels: {app: \"*\"}}}",
                &["spec.selector.matchLabels[app]: wildcard is not supported in selector"],
            ),
        ],
    );
}

#[test]
fn what_istio_1_0_wrote() {
    check_spec(
        "v1alpha3",
        "VirtualService",
        &[
            (
                "{hosts: [a], http: [{websocketUpgrade: true, appendHeaders: {a: b}, removeResponseHeaders: {c: \"\"}, \
                 fault: {delay: {percent: 10, fixedDelay: 5s}}, \
                 route: [{destination: {host: a}, weight: 100, removeRequestHeaders: [d], appendResponseHeaders: {e: f}}]}]}",
                &[],
            ),
            (
                "{hosts: [a], http: [{websocketUpgrade: \"yes\", route: [{destination: {host: a}}]}]}",
                &["spec.http[0].websocketUpgrade: is a text"],
            ),
            // Judged as what it has become.
            (
                "{hosts: [a], http: [{appendHeaders: {\"a b\": c}, route: [{destination: {host: a}}]}]}",
                &["spec.http[0].headers.request.add[a b]: \"a b\" is not a header name"],
            ),
        ],
    );
    check_spec(
        "v1alpha3",
        "DestinationRule",
        &[(
            "{host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 3, interval: 5m}}}",
            &[],
        )],
    );
}

#[test]
fn versions_and_other_kinds() {
    check(
        "{apiVersion: networking.istio.io/v9, kind: Gateway, spec: {}}",
        &["apiVersion: networking.istio.io has no version \"v9\" of Gateway"],
    );
    check("{apiVersion: apps/v1, kind: Deployment, spec: {}}", &[]);
}
