use super::*;
use crate::RootsKind;

const ROUTE: &str = "rules: [{backendRefs: [{name: a, port: 80}]}]";

/// A policy of `default`.
fn policy(name: &str, age: u32, target: &str, validation: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
         metadata: {{name: {name}, generation: 4, creationTimestamp: \"2026-01-01T00:00:{age:02}Z\"}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, {target}}}], validation: {{hostname: a.com, {validation}}}}}\n"
    )
}

const ROOTS_MAP: &str = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: roots}]";

fn with(policies: &[String]) -> Translation {
    read(&(edge(HTTP) + &route("HTTPRoute", "r", ROUTE) + &policies.concat()))
}

fn conditions(out: &Translation, name: &str) -> Vec<String> {
    words(&status(out, "BackendTLSPolicy", name)["ancestors"][0]["conditions"])
}

fn answer(out: &Translation) -> Value {
    rules(out, "*")[0]["directResponse"]["status"].clone()
}

#[test]
fn a_policy_becomes_a_subset_for_gateways() {
    let out = with(&[policy("p", 1, "name: a", ROOTS_MAP)]);
    assert_eq!(
        conditions(&out, "p"),
        ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]
    );
    assert_has(
        &status(&out, "BackendTLSPolicy", "p")["ancestors"][0],
        &json!({
            "ancestorRef": {"kind": "Gateway", "namespace": "default", "name": "edge"},
            "controllerName": CONTROLLER,
        }),
    );
    assert_eq!(
        rules(&out, "*")[0]["route"][0]["destination"]["subset"],
        "backend-tls-p"
    );
    let rule = &out.destination_rules[0];
    assert_eq!(rule.meta.annotations[BACKEND_TLS], "p");
    assert_has(
        &serde_json::to_value(&rule.spec).expect("plain data"),
        &json!({"host": "a.default.svc.cluster.local", "exportTo": ["*"], "subsets": [{
            "name": "backend-tls-p",
            "trafficPolicy": {"tls": {
                "mode": "SIMPLE", "sni": "a.com", "subjectAltNames": ["a.com"],
                "credentialName": "kubernetes-roots://ConfigMap/default/roots",
            }},
        }]}),
    );
    let granted = Granted {
        to: "default".into(),
        account: Some("edge-istio".into()),
        namespace: "default".into(),
        name: "roots".into(),
        roots: Some(RootsKind::ConfigMap),
    };
    assert_eq!(out.granted, [granted].into());
}

#[test]
fn what_is_trusted() {
    let check = |validation: &str, expect: Value| {
        let out = with(&[policy("p", 1, "name: a", validation)]);
        let policy = out.destination_rules[0].spec.subsets[0]
            .traffic_policy
            .clone();
        let tls = policy.and_then(|policy| policy.tls);
        assert_has(&serde_json::to_value(tls).expect("plain data"), &expect);
    };
    check(
        "wellKnownCACertificates: System",
        json!({"caCertificates": "/etc/ssl/certs/ca-certificates.crt", "subjectAltNames": ["a.com"]}),
    );
    check(
        "subjectAltNames: [{type: URI, uri: \"spiffe://x/y\"}, {type: Hostname, hostname: b.com}], \
         wellKnownCACertificates: System",
        json!({"sni": "a.com", "subjectAltNames": ["spiffe://x/y", "b.com"]}),
    );
    check(
        "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: roots}, {group: \"\", kind: Secret, name: cert}]",
        json!({"credentialName": "kubernetes-roots://ConfigMap/default/roots,Secret/default/cert"}),
    );
}

#[test]
fn backends_of_a_policy_that_is_not_in_force_are_not_called() {
    let check = |validation: &str, expect: [&str; 2]| {
        let out = with(&[policy("p", 1, "name: a", validation)]);
        assert_eq!(conditions(&out, "p"), expect, "{validation}");
        assert_eq!(answer(&out), 500, "{validation}");
        assert!(out.destination_rules.is_empty() && out.granted.is_empty());
        let route = status(&out, "HTTPRoute", "r");
        let words = words(&route["parents"][0]["conditions"]);
        assert_eq!(words[1], "ResolvedRefs=False/InvalidBackendTLSPolicy");
    };
    let no_roots = "Accepted=False/NoValidCACertificate";
    for name in ["missing", "bad"] {
        check(
            &ROOTS_MAP.replace("roots", name),
            [no_roots, "ResolvedRefs=False/InvalidCACertificateRef"],
        );
    }
    check(
        &ROOTS_MAP.replace("ConfigMap", "Pod"),
        [no_roots, "ResolvedRefs=False/InvalidKind"],
    );
    check(
        "wellKnownCACertificates: example.com/mine",
        ["Accepted=False/Invalid", "ResolvedRefs=True/ResolvedRefs"],
    );
    // One that leads nowhere beside one that does is only told of.
    let both = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: roots}, {group: \"\", kind: Secret, name: missing}]";
    let out = with(&[policy("p", 1, "name: a", both)]);
    assert_eq!(
        conditions(&out, "p"),
        [
            "Accepted=True/Accepted",
            "ResolvedRefs=False/InvalidCACertificateRef"
        ]
    );
    assert_eq!(answer(&out), Value::Null);
}

#[test]
fn of_several_policies_the_narrower_holds_then_the_older() {
    let of = |name: &str, age: u32, target: &str| policy(name, age, target, ROOTS_MAP);
    let subset =
        |out: &Translation| rules(out, "*")[0]["route"][0]["destination"]["subset"].clone();
    let out = with(&[of("a-young", 2, "name: a"), of("b-old", 1, "name: a")]);
    assert_eq!(subset(&out), "backend-tls-b-old");
    assert_eq!(conditions(&out, "a-young")[0], "Accepted=False/Conflicted");
    assert_eq!(conditions(&out, "b-old")[0], "Accepted=True/Accepted");
    let out = with(&[
        of("all", 1, "name: a"),
        of("port", 2, "name: a, sectionName: p80"),
        of("other-port", 3, "name: a, sectionName: p81"),
    ]);
    assert_eq!(subset(&out), "backend-tls-port");
    for name in ["all", "port", "other-port"] {
        assert_eq!(
            conditions(&out, name)[0],
            "Accepted=True/Accepted",
            "{name}"
        );
    }
}

#[test]
fn targets_that_no_route_leads_to() {
    let out = with(&[policy("p", 1, "name: b", ROOTS_MAP)]);
    assert_eq!(
        status(&out, "BackendTLSPolicy", "p")["ancestors"],
        Value::Null
    );
    assert!(out.destination_rules.is_empty() && out.granted.is_empty());
    let out = with(&[policy("p", 1, "name: a", ROOTS_MAP).replace("kind: Service", "kind: Pod")]);
    assert_eq!(conditions(&out, "p"), ["Accepted=False/TargetNotFound"]);
    assert_eq!(answer(&out), Value::Null);
}

#[test]
fn a_backend_that_is_no_service_has_no_policy_of_one_of_its_name() {
    let other = ROUTE.replace(
        "{name: a,",
        "{group: networking.istio.io, kind: Hostname, name: a,",
    );
    let routes = edge(HTTP) + &route("HTTPRoute", "r", &other);
    let out = read(&(routes + &policy("p", 1, "name: a", ROOTS_MAP)));
    assert_eq!(
        status(&out, "BackendTLSPolicy", "p")["ancestors"],
        Value::Null
    );
    assert!(out.destination_rules.is_empty() && out.granted.is_empty());
}

#[test]
fn clients_in_the_mesh_do_not_call_such_a_backend() {
    let route = route("HTTPRoute", "r", ROUTE)
        .replace("{name: edge}", "{group: \"\", kind: Service, name: b}");
    let out = read(&(route + &policy("p", 1, "name: a", ROOTS_MAP)));
    let words = words(&status(&out, "HTTPRoute", "r")["parents"][0]["conditions"]);
    assert_eq!(words[1], "ResolvedRefs=False/InvalidBackendTLSPolicy");
    assert_eq!(
        rules(&out, "b.default.svc.cluster.local")[0]["directResponse"]["status"],
        500
    );
}

/// Roots that count how often somebody looks at them.
#[derive(Default)]
struct Counted(std::sync::atomic::AtomicUsize);

impl Credentials for Counted {
    fn check(&self, _namespace: &str, _name: &str) -> Result<(), CredentialFault> {
        Err(CredentialFault::Missing)
    }

    fn check_roots(
        &self,
        _of: RootsKind,
        _namespace: &str,
        _name: &str,
    ) -> Result<(), CredentialFault> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

#[test]
fn roots_are_read_once_however_many_refer_to_them() {
    let rules = "{backendRefs: [{name: a, port: 80}]}, ".repeat(20);
    let yaml = edge(HTTP)
        + &route("HTTPRoute", "r", &format!("rules: [{rules}]"))
        + &policy("p", 1, "name: a", ROOTS_MAP)
        + &policy("q", 2, "name: b", ROOTS_MAP);
    let roots = Counted::default();
    let out = read_with(&yaml, &MeshConfig::default(), &roots);
    assert_eq!(out.destination_rules.len(), 1);
    assert_eq!(roots.0.into_inner(), 1);
}
