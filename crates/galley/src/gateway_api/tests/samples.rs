//! The public samples' documents.

use lateen_testkit::conformance;

use super::*;

/// A file of the public samples.
fn sample(file: &str) -> Option<String> {
    let path = conformance(&format!("samples/{file}"))?;
    Some(std::fs::read_to_string(path).expect("file is readable"))
}

#[test]
fn every_document_is_accepted() {
    for (file, objects) in [
        ("bookinfo/gateway-api/bookinfo-gateway.yaml", 1),
        ("bookinfo/gateway-api/route-all-v1.yaml", 0),
        ("bookinfo/gateway-api/route-reviews-90-10.yaml", 0),
        ("helloworld/gateway-api/helloworld-gateway.yaml", 1),
        ("httpbin/gateway-api/httpbin-gateway.yaml", 1),
        ("tcp-echo/gateway-api/tcp-echo-all-v1.yaml", 1),
    ] {
        let Some(text) = sample(file) else { continue };
        let of_gateway_api: Vec<&str> = text
            .split("---\n")
            .filter(|document| document.contains("gateway.networking.k8s.io"))
            .collect();
        let out = read(&of_gateway_api.join("---\n"));
        assert_eq!(out.gateways.len(), objects, "{file}");
        for (key, said) in &out.statuses {
            let status = &said.status;
            let conditions = match status.get("parents") {
                // The services are not in this test's world.
                Some(parents) if key.kind == "HTTPRoute" && objects == 0 => {
                    assert_eq!(
                        words(&parents[0]["conditions"])[0],
                        "Accepted=False/NoMatchingParent"
                    );
                    continue;
                }
                Some(parents) => &parents[0]["conditions"],
                None => &status["conditions"],
            };
            assert_eq!(
                words(conditions)[0],
                "Accepted=True/Accepted",
                "{file}: {key}"
            );
        }
    }
}
