use std::path::PathBuf;

use serde_json::Value;

use super::validate;
use crate::fault::describe;

/// Public documents that tests only read: `LATEEN_CONFORMANCE`, or beside the workspace.
fn conformance() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let folder =
        std::env::var_os("LATEEN_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "conformance data is not at {}: nothing was checked",
        folder.display()
    );
    None
}

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
    let Some(folder) = conformance() else { return };
    let (mut valid, mut invalid, mut wrong) = (0, 0, Vec::new());
    for path in yaml_files(folder.join("validation")) {
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
    eprintln!("{valid} valid and {invalid} invalid documents judged as expected");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn networking_samples_are_accepted() {
    let Some(folder) = conformance() else { return };
    let mut n_documents = 0;
    for path in yaml_files(folder.join("samples/bookinfo/networking")) {
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

#[test]
fn versions_and_other_kinds() {
    check(
        "{apiVersion: networking.istio.io/v9, kind: Gateway, spec: {}}",
        &["apiVersion: networking.istio.io has no version \"v9\" of Gateway"],
    );
    check("{apiVersion: apps/v1, kind: Deployment, spec: {}}", &[]);
}
