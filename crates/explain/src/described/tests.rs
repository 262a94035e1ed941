use lateen_registry::Documents;

use super::*;

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: istio-system}
spec: {type: LoadBalancer, selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}]}
status: {loadBalancer: {ingress: [{ip: 10.10.99.148}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-v1-0, namespace: default, labels: {app: shop, version: v1}}
spec: {containers: [{name: c}]}
status: {podIP: 10.244.0.7, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: c}]}
status: {podIP: 10.244.0.8, phase: Running}
";

const SHAPED: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: default}
spec:
  host: shop
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, loadBalancer: {simple: RANDOM}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

const ROUTED: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: shop, subset: v2}}]
  - timeout: 4s
    route:
    - {destination: {host: shop, subset: v1}, weight: 90}
    - {destination: {host: shop, subset: v2}, weight: 10}
";

const EXPOSED: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: default}
spec:
  hosts: ['*']
  gateways: [gw]
  http:
  - match: [{uri: {exact: /cart}}, {uri: {prefix: /static}}]
    route: [{destination: {host: shop.default.svc.cluster.local}}]
";

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: own, namespace: default}
spec:
  selector: {matchLabels: {app: shop}}
  mtls: {mode: STRICT}
  portLevelMtls: {8080: {mode: DISABLE}}
";

fn platform(texts: &[&str]) -> Platform {
    let documents = texts.iter().map(|text| Documents::file("f.yaml", *text));
    let documents: Vec<Documents> = documents.collect();
    Platform::read(&documents, "cluster.local").expect("valid documents")
}

/// Of the pod where that is asked for, else of the service.
fn told(platform: &Platform, of_pod: bool) -> String {
    let caller = platform.caller("shop-v1-0.default").expect("the pod");
    let service = platform.service("shop", "default").expect("the service");
    let workload = of_pod.then_some(&*caller.workload);
    platform.described_service(service, workload).to_string()
}

#[test]
fn a_service_alone_has_its_ports() {
    let platform = platform(&[SHOP]);
    let expect = "Service: shop.default\n   Port: http 80/HTTP targets pod port 8080\n";
    assert_eq!(told(&platform, false), expect);
}

#[test]
fn rules_that_lead_to_a_service_are_told() {
    let platform = platform(&[SHOP, SHAPED, ROUTED, EXPOSED]);
    let head = "Service: shop.default\n   Port: http 80/HTTP targets pod port 8080\n\
         DestinationRule: default/shop for \"shop\"\n";
    let policy = "   Traffic Policy TLS Mode: ISTIO_MUTUAL\n   Policies: loadBalancer\n\
         VirtualService: default/shop for shop\n";
    let outside = "Exposed on Gateway default/gw: http://10.10.99.148\n\
         VirtualService: default/outside for *\n   HTTP rule 1 of 1: /cart; or /static* -> 100 %\n";
    let second = "   HTTP rule 2 of 2: all -> subset v1 90 %, subset v2 10 % (with timeout 4s)\n";
    let expect = format!(
        "{head}   Matching subsets: v1, v2\n{policy}   HTTP rule 1 of 2: header end-user=jason -> \
         subset v2 100 %\n{second}{outside}"
    );
    assert_eq!(told(&platform, false), expect);
    // The pod is in one subset alone.
    let expect = format!(
        "{head}   Matching subsets: v1\n      (Non-matching subsets v2)\n{policy}   HTTP rule 1 of 2: \
         header end-user=jason -> subset v2 100 %; not to this pod\n{second}{outside}"
    );
    assert_eq!(told(&platform, true), expect);
}

/// A rule that says something of one port says it of that port alone, whichever comes first.
#[test]
fn what_a_rule_says_of_single_ports_is_told() {
    let shop = SHOP.replacen(
        "ports: [{name: http, port: 80, targetPort: 8080}]",
        "ports: [{name: http, port: 80}, {name: grpc, port: 90}]",
        1,
    );
    for (named, expect) in [
        (
            90,
            "   Policies: loadBalancer\n   Port Level Settings:\n      90:\n         \
             TLS Mode: SIMPLE\n         Policies: connectionPool\n",
        ),
        (
            80,
            "   Policies: loadBalancer\n   Port Level Settings:\n      80:\n         \
             TLS Mode: SIMPLE\n         Policies: connectionPool\n",
        ),
    ] {
        let rule = format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop, namespace: default}}
spec:
  host: shop
  trafficPolicy:
    loadBalancer: {{simple: RANDOM}}
    portLevelSettings:
    - port: {{number: {named}}}
      tls: {{mode: SIMPLE}}
      connectionPool: {{tcp: {{maxConnections: 1}}}}
"
        );
        let told = told(&platform(&[&shop, &rule]), false);
        assert!(told.ends_with(expect), "{named}: {told}");
    }
}

#[test]
fn a_gateway_is_found_at_the_port_of_its_service() {
    // The service has 80, which leads to 8080 of its pods.
    for (number, expect) in [
        (80, "Gateway default/gw: http://10.10.99.148\n"),
        (8080, "Gateway default/gw: http://10.10.99.148\n"),
        (
            81,
            "Gateway default/gw, which has no address outside of the cluster\n",
        ),
    ] {
        let gateway = EXPOSED.replace("number: 80", &format!("number: {number}"));
        let told = told(&platform(&[SHOP, &gateway]), false);
        assert!(told.contains(expect), "{number}: {told}");
    }
}

#[test]
fn rules_for_the_host_that_lead_elsewhere_are_named() {
    let away = ROUTED.replace("host: shop,", "host: other,");
    let told = told(&platform(&[SHOP, &away]), false);
    let expect = "VirtualService default/shop: for this host, but none of its rules leads here";
    assert!(told.contains(expect), "{told}");
}

#[test]
fn rules_of_delegates_are_reached_by_their_roots() {
    let root = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: default}
spec:
  hosts: [shop.example.com]
  gateways: [gw]
  http: [{delegate: {name: part}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: part, namespace: default}
spec:
  http: [{route: [{destination: {host: shop}}]}]
";
    let platform = platform(&[SHOP, EXPOSED, root]);
    let told = told(&platform, false);
    let expect =
        "VirtualService: default/part for shop.example.com\n   HTTP rule 1 of 1: all -> 100 %\n";
    assert!(told.contains(expect), "{told}");
}

#[test]
fn a_service_that_a_sidecar_leaves_out_is_not_seen() {
    let narrow = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: [istio-system/*]}]}
";
    let told = told(&platform(&[SHOP, SHAPED, narrow]), false);
    assert!(
        told.contains("No client in namespace default sees it"),
        "{told}"
    );
}

#[test]
fn modes_are_those_of_policies() {
    let of = |texts: &[&str]| {
        let platform = platform(texts);
        let caller = platform.caller("shop-v1-0").expect("the pod");
        platform.described_workload(&caller).to_string()
    };
    let head = "Effective PeerAuthentication:\n   Workload mTLS mode: ";
    assert_eq!(
        of(&[SHOP]),
        format!("{head}PERMISSIVE (nothing says otherwise)\n")
    );
    assert_eq!(
        of(&[SHOP, STRICT]),
        format!(
            "{head}STRICT (by default/own)\n   Port 8080 mTLS mode: DISABLE (by default/own)\n"
        )
    );
    let filter = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: NAME, namespace: default}
spec: {workloadSelector: {labels: {app: APP}}, configPatches: []}
";
    let filter = |name: &str, app: &str| filter.replace("NAME", name).replace("APP", app);
    let told = of(&[SHOP, &filter("mine", "shop"), &filter("other", "bag")]);
    assert!(told.ends_with("EnvoyFilter: default/mine\n"), "{told}");
}
