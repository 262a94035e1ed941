//! A container platform's page on its service mesh, step by step: a cluster with the switch on, what runs
//! in it, the sample application, `istioctl`, and how one finds out what is wrong.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, ensure};
use lateen_e2e::{Kubectl, Mesh, eventually, http::Http, mesh::text};

use super::{alone, block_on};

const POOL: &str = "10.10.99.140-10.10.99.150";

#[test]
fn a_cluster_is_made_looked_at_and_used() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::prepare("switch")?;
    let name = mesh.name.as_str();
    let create =
        |pool: &str| mesh.lateen(&["cluster", "create", name, "--istio", "--vip-pool", pool]);
    let few = create("10.10.99.148-10.10.99.149")?;
    ensure!(
        !few.status.success() && text(&few).contains("needs at least 3"),
        "{}",
        text(&few)
    );
    let made = create(POOL)?;
    ensure!(made.status.success(), "{}", text(&made));
    let used = steps(&mesh);
    mesh.lateen_ok(&["cluster", "delete", name])?;
    used
}

fn steps(mesh: &Mesh) -> anyhow::Result<()> {
    for kubectl in mesh.needed_kubectls()? {
        pods_run(&kubectl)?;
        let address = gateway_address(&kubectl)?;
        let last: u8 = address.rsplit_once('.').context("an address")?.1.parse()?;
        ensure!(
            address.starts_with("10.10.99.") && (140..=150).contains(&last),
            "{address}"
        );
    }
    bookinfo(mesh)?;
    istioctl(mesh)?;
    let verified = mesh.lateen_ok(&["verify-install"])?;
    for line in [
        "✔ 1. Virtual addresses: the pool 10.10.99.140-10.10.99.150 has 11, and 3 are needed",
        "✔ 2. Pods: all ",
        "✔ 3. Services: a ready pod stands behind each",
        "✔ 4. Gateway addresses: istio-ingressgateway has 10.10.99.",
        "✔ Istio is installed and verified successfully",
    ] {
        ensure!(verified.contains(line), "{line:?} is not in:\n{verified}");
    }
    Ok(())
}

/// Every line of `kubectl get pods` says `Running`, and as many containers are ready as there are.
fn pods_run(kubectl: &Kubectl) -> anyhow::Result<()> {
    let said = kubectl.run(&["get", "pods", "-n", "istio-system"])?;
    let mut lines = said
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    ensure!(
        header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "{said}"
    );
    for cells in lines {
        let (ready, all) = cells[1].split_once('/').context("READY")?;
        ensure!(
            ready == all && cells[2] == "Running" && cells[3] == "0",
            "{said}"
        );
    }
    for component in ["istiod-", "istio-ingressgateway-", "istio-egressgateway-"] {
        ensure!(said.contains(&format!("\n{component}")), "{said}");
    }
    Ok(())
}

/// The ingress gateway's line of `kubectl get svc`.
fn gateway_address(kubectl: &Kubectl) -> anyhow::Result<String> {
    let said = kubectl.run(&["get", "svc", "-n", "istio-system"])?;
    let header: Vec<_> = said
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let expect = [
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AGE",
    ];
    ensure!(header == expect, "{said}");
    let row = said
        .lines()
        .find(|line| line.starts_with("istio-ingressgateway"));
    let cells: Vec<_> = row
        .with_context(|| said.clone())?
        .split_whitespace()
        .collect();
    ensure!(cells[1] == "LoadBalancer", "{said}");
    // Ports as the page shows them, each with one of the node.
    let ports: Vec<_> = cells[4].split(',').collect();
    for port in ["80", "443", "31400"] {
        let is_there = ports.iter().any(|cell| {
            let node_port = cell.strip_prefix(&format!("{port}:"));
            node_port.is_some_and(|rest| rest.ends_with("/TCP") && !rest.starts_with('<'))
        });
        ensure!(is_there, "port {port} is not in:\n{said}");
    }
    Ok(cells[3].to_owned())
}

/// The sample, with the commands of its own page.
fn bookinfo(mesh: &Mesh) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| -> anyhow::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, lateen_bookinfo::manifest(name).context("a sample")?)?;
        Ok(path.display().to_string())
    };
    let kubectls = mesh.needed_kubectls()?;
    let kubectl = kubectls.first().context("this step takes kubectl")?;
    kubectl.run(&["label", "namespace", "default", "istio-injection=enabled"])?;
    kubectl.run(&["apply", "-f", &file("bookinfo.yaml")?])?;
    kubectl.run(&["apply", "-f", &file("bookinfo-gateway.yaml")?])?;
    let http = mesh.status()?["http"]
        .as_str()
        .context("an address")?
        .to_owned();
    let http = Http::new(http.trim_start_matches("http://").parse()?);
    block_on(eventually("the product page", async || {
        let page = http.get("/productpage").await?;
        ensure!(page.status == 200 && page.body.contains("The Comedy of Errors"));
        Ok(())
    }))?;
    let pods = kubectl.run(&["get", "pods"])?;
    ensure!(
        pods.lines().skip(1).all(|line| line.contains("2/2")),
        "{pods}"
    );
    Ok(())
}

/// The program under the name that users know, moved to where their shell finds it.
fn istioctl(mesh: &Mesh) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    symlink(mesh.binary(), folder.path().join("istioctl"))?;
    let output = Command::new("istioctl")
        .arg("version")
        .env("PATH", folder.path())
        .env("KUBECONFIG", mesh.kubeconfig()?)
        .output()?;
    let said = text(&output);
    ensure!(output.status.success(), "{said}");
    for part in [
        "client version",
        "control plane version",
        "data plane version",
    ] {
        ensure!(said.contains(part), "{said}");
    }
    Ok(())
}

/// Each fault of the checklist, with the step that finds it and what to do next.
#[test]
fn what_is_wrong_is_found_at_its_step() -> anyhow::Result<()> {
    let _alone = alone();
    let mut mesh = Mesh::prepare("checklist")?;
    mesh.up_with(&["--no-mesh", "--vip-pool", "10.10.99.140"])?;
    let kubectls = mesh.needed_kubectls()?;
    let kubectl = kubectls.first().context("this test takes kubectl")?;
    // Somebody else has the only address.
    kubectl.run(&["create", "service", "loadbalancer", "other", "--tcp=80"])?;
    block_on(eventually("the other service to have it", async || {
        let said = kubectl.run(&["get", "service", "other"])?;
        ensure!(said.contains("10.10.99.140"), "{said}");
        Ok(())
    }))?;
    mesh.lateen_ok(&["install", "-y"])?;
    let failing = |lines: &[&str]| -> anyhow::Result<()> {
        let said = text(&mesh.lateen(&["verify-install"])?);
        for line in lines {
            ensure!(said.contains(line), "{line:?} is not in:\n{said}");
        }
        Ok(())
    };
    failing(&[
        "✘ 1. Virtual addresses: the pool 10.10.99.140 has 1, of which others hold 1 (service default/other has 10.10.99.140), and at least 3 are needed",
        "lateen cluster create NAME --istio --vip-pool FIRST-LAST",
        "✔ 2. Pods: ",
        "✘ 4. Gateway addresses: service istio-ingressgateway has no external address: no address is free",
        "next: kubectl describe service istio-ingressgateway -n istio-system",
        "lateen: everything is there, but it does not work: see step 1 (Virtual addresses), 4 (Gateway addresses)",
    ])?;
    kubectl.run(&[
        "set",
        "image",
        "-n",
        "istio-system",
        "deployment/istio-ingressgateway",
        "istio-proxy=example.invalid/none:1",
    ])?;
    block_on(eventually("the new pod to fail", async || {
        failing(&[
            "✘ 2. Pods: pod istio-ingressgateway-",
            "in container istio-proxy",
            "next: kubectl describe pod istio-ingressgateway-",
        ])
    }))?;
    // The next step says why.
    let said = text(&mesh.lateen(&["verify-install"])?);
    let next = said
        .split_once("next: kubectl describe pod ")
        .context("a next step")?
        .1;
    let pod = next.split_whitespace().next().context("a pod")?;
    let described = kubectl.run(&["describe", "pod", pod, "-n", "istio-system"])?;
    ensure!(
        described.contains("lateen image add example.invalid/none"),
        "{described}"
    );
    mesh.stop().map(drop)
}
