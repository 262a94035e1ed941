use lateen_api::gateway_api::GatewayDeployment;

use super::*;

#[track_caller]
fn listener_words(out: &Translation, n: usize) -> Vec<String> {
    words(&status(out, "KubernetesGateway", "edge")["listeners"][n]["conditions"])
}

const GOOD: [&str; 4] = [
    "Accepted=True/Accepted",
    "Conflicted=False/NoConflicts",
    "Programmed=True/Programmed",
    "ResolvedRefs=True/ResolvedRefs",
];

#[test]
fn a_gateway_says_where_it_is() {
    let out = read(&edge(HTTP));
    let found = status(&out, "KubernetesGateway", "edge");
    assert_eq!(
        words(&found["conditions"]),
        ["Accepted=True/Accepted", "Programmed=True/Programmed"]
    );
    assert_eq!(found["conditions"][0]["observedGeneration"], 3);
    assert_eq!(
        found["addresses"],
        json!([{"type": "IPAddress", "value": "192.0.2.7"}])
    );
    assert_eq!(
        found["listeners"][0]["supportedKinds"],
        json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"},
            {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute"}])
    );
    assert_eq!(found["listeners"][0]["attachedRoutes"], 0);
    assert_eq!(listener_words(&out, 0), GOOD);
}

#[test]
fn what_is_deployed() {
    let yaml = edge(&format!(
        "{HTTP}, {{name: b, port: 80, protocol: HTTP, hostname: b.com}}, {{name: t, port: 9000, protocol: TCP}}"
    ));
    let out = read(&yaml.replace(
        "spec: {",
        "spec: {infrastructure: {labels: {l: m}, annotations: {n: o}}, ",
    ));
    assert_eq!(
        out.deployments,
        [GatewayDeployment {
            namespace: "default".into(),
            gateway: "edge".into(),
            class: "istio".into(),
            name: "edge-istio".into(),
            ports: vec![
                ("http-80".into(), 80, "http".into()),
                ("tcp-9000".into(), 9000, "tcp".into()),
            ],
            labels: [("l".to_owned(), "m".to_owned())].into(),
            annotations: [("n".to_owned(), "o".to_owned())].into(),
            ..GatewayDeployment::default()
        }]
    );
}

#[test]
fn an_account_may_be_named() {
    let account = |annotations: &str| {
        let meta = format!("metadata: {{annotations: {annotations}, ");
        let out = read(&edge(HTTP).replace("metadata: {", &meta));
        out.deployments[0].account().to_owned()
    };
    assert_eq!(account("{}"), "edge-istio");
    let own = "{gateway.istio.io/service-account: own}";
    assert_eq!(account(own), "own");
}

#[test]
fn a_revision_runs_the_gateways_that_name_it() {
    let revisions = |labels: &str| {
        let yaml = edge(HTTP).replace("metadata: {", &format!("metadata: {{labels: {labels}, "));
        let out = read(&yaml);
        let named = out.deployments.into_iter().map(|it| it.revision);
        named.collect::<Vec<_>>()
    };
    assert_eq!(revisions("{}"), [""]);
    assert_eq!(revisions("{istio.io/rev: canary}"), ["canary"]);
    // A namespace says it for those of its Gateways that do not.
    let in_other = edge(HTTP).replace("metadata: {", "metadata: {namespace: revisioned, ");
    assert_eq!(read(&in_other).deployments[0].revision, "canary");
}

#[test]
fn addresses_may_be_asked_for() {
    let programmed = |addresses: &str| {
        let yaml = edge(HTTP).replace("spec: {", &format!("spec: {{addresses: [{addresses}], "));
        let out = read(&yaml);
        let found = status(&out, "KubernetesGateway", "edge");
        let said = words(&found["conditions"])[1].clone();
        (said, out.deployments[0].address.clone())
    };
    let good = "Programmed=True/Programmed".to_owned();
    let bad = "Programmed=False/AddressNotUsable".to_owned();
    let asked = |address: &str| address.to_owned();
    // The Service has 192.0.2.7.
    for (addresses, want) in [
        ("{value: 192.0.2.7}", (&good, "192.0.2.7")),
        ("{type: IPAddress}", (&good, "")),
        ("{value: 192.0.2.9}", (&bad, "192.0.2.9")),
        (
            "{value: 192.0.2.9}, {value: 192.0.2.7}",
            (&bad, "192.0.2.9"),
        ),
    ] {
        let want = (want.0.clone(), asked(want.1));
        assert_eq!(programmed(addresses), want, "{addresses}");
    }
}

#[test]
fn a_gateway_may_be_served_by_proxies_that_are_there() {
    let by = |address: &str| {
        let yaml = edge(HTTP).replace("spec: {", &format!("spec: {{addresses: [{address}], "));
        read(&yaml)
    };
    let name = "istio-ingressgateway.istio-system.svc.cluster.local";
    let out = by(&format!("{{type: Hostname, value: {name}}}"));
    assert!(out.deployments.is_empty());
    assert_eq!(out.gateways[0].meta.annotations[GATEWAY_SERVICE], name);
    let found = status(&out, "KubernetesGateway", "edge");
    assert_eq!(found["addresses"][0]["value"], "192.0.2.8");
    let out = by("{type: Hostname, value: nowhere.istio-system.svc.cluster.local}");
    let found = status(&out, "KubernetesGateway", "edge");
    assert_eq!(
        words(&found["conditions"])[1],
        "Programmed=False/AddressNotAssigned"
    );
    let out = by("{type: Odd, value: x}");
    let found = status(&out, "KubernetesGateway", "edge");
    assert_eq!(
        words(&found["conditions"]),
        [
            "Accepted=False/UnsupportedAddress",
            "Programmed=False/Invalid"
        ]
    );
    assert!(out.gateways.is_empty());
}

#[test]
fn a_port_that_the_service_lacks() {
    let out = read(&edge("{name: http, port: 81, protocol: HTTP}"));
    let found = status(&out, "KubernetesGateway", "edge");
    assert_eq!(words(&found["conditions"])[1], "Programmed=False/Invalid");
}

#[test]
fn classes_of_others_are_left_alone() {
    let class = |name: &str, controller: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}, generation: 1}}\nspec: {{controllerName: {controller}}}\n"
        )
    };
    let out = read(&(edge(HTTP) + &class("istio", CONTROLLER)));
    assert_eq!(
        words(&status(&out, "GatewayClass", "/istio")["conditions"]),
        ["Accepted=True/Accepted"]
    );
    let features = status(&out, "GatewayClass", "/istio")["supportedFeatures"].clone();
    let mut sorted: Vec<_> = names_of(&features);
    sorted.sort();
    assert_eq!(names_of(&features), sorted);
    assert_eq!(out.gateways.len(), 1);
    let out = read(&(edge(HTTP) + &class("istio", "example.com/other")));
    assert!(out.statuses.is_empty() && out.gateways.is_empty());
    let mine = edge(HTTP).replace("gatewayClassName: istio", "gatewayClassName: mine");
    assert!(read(&mine).statuses.is_empty());
    assert_eq!(
        read(&(mine + &class("mine", CONTROLLER))).deployments[0].name,
        "edge-mine"
    );
}

fn names_of(features: &Value) -> Vec<String> {
    let name = |f: &Value| f["name"].as_str().unwrap_or_default().to_owned();
    features
        .as_array()
        .into_iter()
        .flatten()
        .map(name)
        .collect()
}

#[test]
fn certificates() {
    let https = |refs: &str| {
        edge(&format!(
            "{{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{refs}]}}}}"
        ))
    };
    let wrong = |out: &Translation, reason: &str| {
        let found = listener_words(out, 0);
        assert_eq!(
            found[2..],
            [
                "Programmed=False/Invalid".to_owned(),
                format!("ResolvedRefs=False/{reason}")
            ]
        );
        assert!(out.gateways.is_empty());
    };
    let out = read(&https("{name: cert}"));
    assert_eq!(listener_words(&out, 0), GOOD);
    let tls = out.gateways[0].spec.servers[0].tls.clone().expect("TLS");
    assert_eq!(tls.credential_name, "kubernetes-gateway://default/cert");
    let granted = |namespace: &str| Granted {
        to: "default".into(),
        account: Some("edge-istio".into()),
        namespace: namespace.into(),
        name: "cert".into(),
        roots: None,
    };
    assert_eq!(out.granted, [granted("default")].into());
    // Whoever runs the proxies is let at it.
    let account = "metadata: {annotations: {gateway.istio.io/service-account: own}, ";
    let out = read(&https("{name: cert}").replace("metadata: {", account));
    let own = Granted {
        account: Some("own".into()),
        ..granted("default")
    };
    assert_eq!(out.granted, [own].into());
    wrong(&read(&https("{name: missing}")), "InvalidCertificateRef");
    wrong(&read(&https("{name: bad}")), "InvalidCertificateRef");
    wrong(&read(&https("")), "InvalidCertificateRef");
    wrong(
        &read(&https("{kind: ConfigMap, name: cert}")),
        "InvalidCertificateRef",
    );
    let foreign = https("{name: cert, namespace: other}");
    wrong(&read(&foreign), "RefNotPermitted");
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: other}\n\
        spec:\n  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]\n  to: [{group: \"\", kind: Secret, name: cert}]\n";
    let out = read(&(foreign + grant));
    assert_eq!(listener_words(&out, 0), GOOD);
    assert_eq!(out.granted, [granted("other")].into());
}

#[test]
fn listeners_that_cannot_be_told_apart() {
    for (second, reason) in [
        ("{name: b, port: 80, protocol: HTTP}", "HostnameConflict"),
        ("{name: b, port: 80, protocol: TCP}", "ProtocolConflict"),
        (
            "{name: b, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}",
            "ProtocolConflict",
        ),
    ] {
        let out = read(&edge(&format!("{HTTP}, {second}")));
        assert_eq!(listener_words(&out, 0), GOOD);
        let found = listener_words(&out, 1);
        assert_eq!(
            found[..2],
            [
                format!("Accepted=False/{reason}"),
                format!("Conflicted=True/{reason}")
            ]
        );
        assert_eq!(found[2], format!("Programmed=False/{reason}"));
        let gateway = status(&out, "KubernetesGateway", "edge");
        assert_eq!(
            words(&gateway["conditions"])[0],
            "Accepted=True/ListenersNotValid"
        );
        assert_eq!(out.gateways.len(), 1);
    }
    let out = read(&edge(&format!(
        "{HTTP}, {{name: b, port: 80, protocol: HTTP, hostname: b.com}}"
    )));
    assert_eq!(listener_words(&out, 1), GOOD);
}

#[test]
fn kinds_that_a_protocol_does_not_carry() {
    let out = read(&edge(
        "{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}}",
    ));
    assert_eq!(
        listener_words(&out, 0)[3],
        "ResolvedRefs=False/InvalidRouteKinds"
    );
    let gateway = status(&out, "KubernetesGateway", "edge");
    assert_eq!(
        gateway["listeners"][0]["supportedKinds"],
        json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}])
    );
    assert_eq!(out.gateways.len(), 1, "what it can do, it does");
}

#[test]
fn listeners_of_one_port_do_not_take_each_others_hosts() {
    let yaml = edge(
        "{name: all, port: 80, protocol: HTTP}, {name: wild, port: 80, protocol: HTTP, hostname: \"*.x.com\"}, \
         {name: one, port: 80, protocol: HTTP, hostname: a.x.com}",
    ) + &route(
        "HTTPRoute",
        "r",
        "hostnames: [\"*\", b.x.com, a.x.com]\n  rules: [{backendRefs: [{name: a, port: 80}]}]",
    )
    .replace("{name: edge}", "{name: edge, sectionName: all}");
    let out = read(&yaml);
    let mut found: Vec<_> = out
        .virtual_services
        .iter()
        .map(|o| {
            let answer = o.spec.http[0].direct_response.as_ref().map(|d| d.status);
            (o.spec.hosts[0].as_str(), answer)
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [("*", None), ("*.x.com", Some(404)), ("a.x.com", Some(404))]
    );
}

#[test]
fn listener_sets() {
    let set = |name: &str, listeners: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: {name}, namespace: other, generation: 4}}\n\
             spec: {{parentRef: {{name: edge, namespace: default}}, listeners: [{listeners}]}}\n"
        )
    };
    let more = "{name: more, port: 9000, protocol: HTTP}";
    let open = edge(HTTP).replace(
        "spec: {",
        "spec: {allowedListeners: {namespaces: {from: All}}, ",
    );
    let of_set = route(
        "HTTPRoute",
        "r",
        "rules: [{backendRefs: [{name: a, port: 80}]}]",
    )
    .replace("{name: r,", "{name: r, namespace: other,")
    .replace("{name: edge}", "{kind: ListenerSet, name: s}");
    let out = read(&(open.clone() + &set("s", more) + &of_set));
    let found = status(&out, "ListenerSet", "other/s");
    assert_eq!(
        words(&found["conditions"]),
        ["Accepted=True/Accepted", "Programmed=True/Programmed"]
    );
    assert_eq!(found["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(
        status(&out, "KubernetesGateway", "edge")["attachedListenerSets"],
        1
    );
    assert_eq!(
        out.virtual_services[0].spec.gateways,
        ["default/edge-istio-autogenerated-k8s-gateway-other.s.more"]
    );
    assert_eq!(out.deployments[0].ports.len(), 2);

    let out = read(&(edge(HTTP) + &set("s", more)));
    let found = status(&out, "ListenerSet", "other/s");
    assert_eq!(
        words(&found["conditions"]),
        ["Accepted=False/NotAllowed", "Programmed=False/NotAllowed"]
    );

    let out = read(&(open + &set("s", "{name: clash, port: 80, protocol: HTTP}")));
    let found = status(&out, "ListenerSet", "other/s");
    assert_eq!(
        words(&found["conditions"])[0],
        "Accepted=False/ListenersNotValid"
    );
    assert_eq!(
        words(&found["listeners"][0]["conditions"])[1],
        "Conflicted=True/HostnameConflict"
    );
}

#[test]
fn what_of_a_gateway_is_not_supported_is_named() {
    for (field, reason) in [
        (
            "infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: x}}",
            "InvalidParameters",
        ),
        (
            "addresses: [{type: Hostname, value: edge-istio}], tls: {backend: {clientCertificateRef: {name: cert}}}",
            "Invalid",
        ),
    ] {
        let out = read(&edge(HTTP).replace("spec: {", &format!("spec: {{{field}, ")));
        let found = status(&out, "KubernetesGateway", "edge");
        assert_eq!(
            words(&found["conditions"])[0],
            format!("Accepted=False/{reason}")
        );
        assert!(
            out.gateways.is_empty() && out.deployments.is_empty(),
            "{field}"
        );
    }
}

#[test]
fn a_gateway_needs_one_listener_that_is_accepted() {
    let odd = "{name: odd, port: 81, protocol: ODD}";
    let check = |listeners: &str, expect: &str| {
        let out = read(&edge(listeners));
        let gateway = status(&out, "KubernetesGateway", "edge");
        assert_eq!(words(&gateway["conditions"])[0], expect, "{listeners}");
    };
    check(odd, "Accepted=False/ListenersNotValid");
    check(&format!("{HTTP}, {odd}"), "Accepted=True/ListenersNotValid");
}

#[test]
fn listener_sets_without_a_valid_listener_are_not_attached() {
    let set = |name: &str, listeners: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: {name}}}\n\
             spec: {{parentRef: {{name: edge}}, listeners: [{listeners}]}}\n"
        )
    };
    let gateway = edge(HTTP).replace(
        "listeners:",
        "allowedListeners: {namespaces: {from: Same}}, listeners:",
    );
    let yaml = gateway
        + &set(
            "good",
            "{name: more, port: 80, protocol: HTTP, hostname: a.com}, {name: tcp, port: 80, protocol: TCP}",
        )
        + &set("useless", "{name: tcp, port: 80, protocol: TCP}");
    let out = read(&yaml);
    let gateway = status(&out, "KubernetesGateway", "edge");
    assert_eq!(gateway["attachedListenerSets"], 1);
    let conditions = |name: &str| words(&status(&out, "ListenerSet", name)["conditions"]);
    assert_eq!(
        conditions("good"),
        ["Accepted=True/Accepted", "Programmed=True/Programmed"]
    );
    assert_eq!(
        conditions("useless"),
        [
            "Accepted=False/ListenersNotValid",
            "Programmed=False/ListenersNotValid"
        ]
    );
}

#[test]
fn a_certificate_for_backends() {
    let with = |reference: &str| {
        let tls = format!("tls: {{backend: {{{reference}}}}}, listeners:");
        read(&edge(HTTP).replace("listeners:", &tls))
    };
    let named = |out: &Translation| {
        let mut gateways = out.gateways.iter();
        let found = gateways
            .next()
            .expect("a Gateway")
            .meta
            .annotations
            .get(CLIENT_CERTIFICATE);
        found.cloned().unwrap_or_default()
    };
    let granted = |out: &Translation| -> Vec<String> {
        let all = out.granted.iter();
        all.map(|of| format!("{}/{} {:?}", of.namespace, of.name, of.roots))
            .collect()
    };
    let out = with("");
    assert_eq!((named(&out), granted(&out)), (String::new(), Vec::new()));
    for (reference, resolved, secret, is_granted) in [
        ("name: cert", "True/ResolvedRefs", "default/cert", true),
        (
            "name: gone",
            "False/InvalidClientCertificateRef",
            "default/gone",
            false,
        ),
        (
            "name: bad",
            "False/InvalidClientCertificateRef",
            "default/bad",
            false,
        ),
        (
            "kind: ConfigMap, group: \"\", name: cert",
            "False/InvalidClientCertificateRef",
            "default/cert",
            false,
        ),
        (
            "name: cert, namespace: other",
            "False/RefNotPermitted",
            "other/cert",
            false,
        ),
    ] {
        let out = with(&format!("clientCertificateRef: {{{reference}}}"));
        let found = words(&status(&out, "KubernetesGateway", "edge")["conditions"]);
        assert_eq!(found[0], "Accepted=True/Accepted", "{reference}");
        assert_eq!(found[2], format!("ResolvedRefs={resolved}"), "{reference}");
        // It is named in any case: without it, backends are not called.
        assert_eq!(
            named(&out),
            format!("kubernetes-gateway://{secret}"),
            "{reference}"
        );
        let want: &[String] = if is_granted {
            &[format!("{secret} None")]
        } else {
            &[]
        };
        assert_eq!(granted(&out), want, "{reference}");
    }
}

#[test]
fn certificates_of_clients() {
    let frontend = |validation: &str, per_port: &str| {
        let listeners = "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}, \
                         {name: b, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
        let tls = format!(
            "tls: {{frontend: {{default: {{validation: {{{validation}}}}}, perPort: [{per_port}]}}}}, listeners:"
        );
        read(&edge(listeners).replace("listeners:", &tls))
    };
    let roots = |name: &str| format!("caCertificateRefs: [{{group: \"\", {name}}}]");
    let good = roots("kind: ConfigMap, name: roots");
    let out = frontend(&good, "{port: 8443, tls: {}}");
    let tls = |n: usize| {
        let tls = out.gateways[n].spec.servers[0].tls.clone();
        serde_json::to_value(tls).expect("plain data")
    };
    assert_has(
        &tls(0),
        &json!({"mode": "MUTUAL", "credentialName": "kubernetes-gateway://default/cert",
            "caCertCredentialName": "kubernetes-roots://ConfigMap/default/roots"}),
    );
    assert_has(
        &tls(1),
        &json!({"mode": "SIMPLE", "caCertCredentialName": null}),
    );
    let granted: Vec<_> = out.granted.iter().map(|of| (&*of.name, of.roots)).collect();
    assert_eq!(
        granted,
        [("cert", None), ("roots", Some(crate::RootsKind::ConfigMap))]
    );

    let check = |validation: &str, accepted: &str, resolved: &str| {
        let out = frontend(validation, "{port: 8443, tls: {}}");
        let found = listener_words(&out, 0);
        assert_eq!(
            [&*found[0], &*found[3]],
            [accepted, resolved],
            "{validation}"
        );
        assert_eq!(listener_words(&out, 1), GOOD);
        assert_eq!(out.gateways.len(), 1);
    };
    let no_roots = "Accepted=False/NoValidCACertificate";
    for (name, reason) in [
        ("kind: ConfigMap, name: missing", "InvalidCACertificateRef"),
        ("kind: ConfigMap, name: bad", "InvalidCACertificateRef"),
        ("kind: Pod, name: roots", "InvalidCACertificateKind"),
        (
            "kind: ConfigMap, name: roots, namespace: other",
            "RefNotPermitted",
        ),
    ] {
        check(
            &roots(name),
            no_roots,
            &format!("ResolvedRefs=False/{reason}"),
        );
    }
    check(
        &format!("mode: AllowInsecureFallback, {good}"),
        "Accepted=False/UnsupportedValue",
        "ResolvedRefs=True/ResolvedRefs",
    );
}
