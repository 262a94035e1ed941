//! The control plane's bench on tiny meshes: it measures what it says, and nothing here is timed.

use std::process::Command;

use serde_json::Value;

const PROXIES: u64 = 4;

fn bench(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_lateen-bench"))
        .args(args)
        .output()
        .expect("the bench starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    output.stdout
}

/// Every step of a mesh of so many services with one kind of client.
fn mesh(client: &str) -> Value {
    let proxies = PROXIES.to_string();
    let size = ["--services", "12", "--proxies", &proxies, "--ports", "2"];
    let steps = ["--endpoints", "3", "--routes", "2", "--idle", "1"];
    let rest = ["--reconnect", "--client", client];
    let args = [&["control-plane-mesh"][..], &size, &steps, &rest].concat();
    serde_json::from_slice(&bench(&args)).expect("JSON")
}

fn check(client: &str) {
    let measured = mesh(client);
    let first = &measured["first"]["reached"];
    // Twelve services and two subsets of two of them, endpoints of each; listeners of two ports, of
    // one TCP service and the virtual ones; two tables of routes.
    let least = (16 + 16 + 5 + 2) * PROXIES;
    let resources = first["resources"].as_u64();
    assert!(resources.is_some_and(|n| n >= least), "{measured:#}");
    let n_changes = |of: &str| measured[of]["reached"]["last"].as_array().map(Vec::len);
    assert_eq!(n_changes("endpoint"), Some(3), "{measured:#}");
    assert_eq!(n_changes("route"), Some(2), "{measured:#}");
    assert!(measured["idle"]["reached"].is_f64(), "{measured:#}");
    let again = &measured["again"]["reached"];
    assert_eq!(again["broken"], 0, "{measured:#}");
    assert_eq!(again["unchanged"], PROXIES, "{measured:#}");
    if client == "ours" {
        assert_eq!(
            again["resources"], 0,
            "what is held is not sent: {measured:#}"
        );
    }
}

#[test]
fn our_proxies_get_every_change() {
    check("ours");
}

#[test]
fn envoys_get_every_change() {
    check("envoy");
}

#[test]
fn a_run_writes_its_report() {
    let text = bench(&[
        "control-plane",
        "--quick",
        "--only",
        "single",
        "--services",
        "12",
    ]);
    let text = String::from_utf8(text).expect("text");
    assert!(
        text.contains("| 12 × 1, ours | a resource, made and sent |"),
        "{text}"
    );
}
