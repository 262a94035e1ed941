//! An article's walk from nothing to a measured application, with its commands in a shell: a file applied
//! in one go, the sample injected on the way to `kubectl`, a gateway Service made by hand, and load.
//!
//! Three things are not as in the article. `wrk` runs for 5 seconds and not for 60. The gateway Service
//! that the file makes is deleted before the one by hand is created, which would be refused. And where the
//! article opens Grafana, which no test can fetch, its pod runs a small web server over the files that
//! Grafana would read.

use std::fs::File;

use anyhow::{Context as _, ensure};
use lateen_e2e::{Desk, Kubectl, Mesh, eventually, http::Http, inside};
use lateen_testkit::find_tool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{alone, block_on};

/// What stands in for the address of the reader's machine.
const EXTERNAL_IP: &str = "192.168.0.1";

/// In the place of Grafana: answers its probe, and shows the dashboard that it would open first.
const GRAFANA: &str = "cd /tmp; mkdir api; echo ok > api/health; \
    cp $GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH index.html; exec python3 -m http.server 3000";

/// The ports of the gateway Service that is made by hand: name and number.
const PORTS: [(&str, u16); 8] = [
    ("http2", 80),
    ("https", 443),
    ("tcp", 31400),
    ("tcp-pilot-grpc-tls", 15011),
    ("tcp-citadel-grpc-tls", 8060),
    ("tcp-dns-tls", 853),
    ("http2-prometheus", 15030),
    ("http2-grafana", 15031),
];

#[test]
fn the_articles_commands_lead_to_a_measured_application() -> anyhow::Result<()> {
    let _alone = alone();
    for index in 0.. {
        let mesh = Mesh::platform("article")?;
        let kubectls = mesh.needed_kubectls()?;
        let Some(kubectl) = kubectls.get(index) else {
            return mesh.stop().map(drop);
        };
        let desk = Desk::of(&mesh, kubectl, "istio-1.0.2")?;
        install(&desk)?;
        deploy(&desk, &mesh)?;
        make_the_gateway_service(&desk)?;
        block_on(async {
            page_answers(&mesh).await?;
            measure(&desk, &mesh).await?;
            plain_text_is_refused(&mesh).await?;
            look_at_grafana(&desk, &mesh, kubectl).await
        })?;
        mesh.stop()?;
    }
    Ok(())
}

fn install(desk: &Desk) -> anyhow::Result<()> {
    // As a release has it.
    let file = "install/kubernetes/istio-demo-auth.yaml";
    desk.write(file, "")?;
    desk.bash(&format!(
        "istioctl manifest generate --set profile=demo --set meshConfig.authPolicy=MUTUAL_TLS > {file}"
    ))?;
    // In one go: namespaces and definitions come first.
    desk.bash("kubectl apply -f install/kubernetes/istio-demo-auth.yaml")?;
    let services = desk.bash("kubectl get service -n istio-system")?;
    for service in ["istiod", "istio-ingressgateway", "istio-egressgateway"] {
        ensure!(services.contains(service), "{services}");
    }
    // A reader asks until all run.
    block_on(eventually("all components to run", async || {
        let pods = desk.bash("kubectl get pods -n istio-system")?;
        let mut each = pods.lines().skip(1);
        ensure!(
            each.clone().count() == 3 && each.all(|line| line.contains("1/1")),
            "{pods}"
        );
        Ok(())
    }))
}

fn deploy(desk: &Desk, mesh: &Mesh) -> anyhow::Result<()> {
    for (folder, name) in [
        ("platform/kube", "bookinfo.yaml"),
        ("networking", "bookinfo-gateway.yaml"),
    ] {
        let yaml = lateen_bookinfo::manifest(name).context("a sample")?;
        desk.write(&format!("samples/bookinfo/{folder}/{name}"), yaml)?;
    }
    desk.bash(
        "kubectl apply -f <(istioctl kube-inject -f samples/bookinfo/platform/kube/bookinfo.yaml)",
    )?;
    let services = desk.bash("kubectl get services")?;
    for service in ["details", "productpage", "ratings", "reviews"] {
        ensure!(services.contains(service), "{services}");
    }
    block_on(async {
        mesh.wait_ready("default", "app=productpage", 1).await?;
        mesh.wait_ready("default", "app=reviews", 3).await
    })?;
    let pods = desk.bash("kubectl get pods")?;
    ensure!(
        pods.lines().skip(1).all(|line| line.contains("2/2")),
        "{pods}"
    );
    desk.bash("kubectl apply -f samples/bookinfo/networking/bookinfo-gateway.yaml")?;
    let services = desk.bash("kubectl get svc -n istio-system")?;
    ensure!(services.contains("LoadBalancer"), "{services}");
    Ok(())
}

/// For those whose provider has no load balancer: a ClusterIP with an external address.
fn make_the_gateway_service(desk: &Desk) -> anyhow::Result<()> {
    let ports: String = PORTS
        .iter()
        .map(|(name, port)| {
            format!("  - {{name: {name}, port: {port}, protocol: TCP, targetPort: {port}}}\n")
        })
        .collect();
    desk.write(
        "istio-svc.yaml",
        &format!(
            "
apiVersion: v1
kind: Service
metadata:
  labels: {{app: istio-ingressgateway, chart: gateways-1.0.1, heritage: Tiller, istio: ingressgateway, release: RELEASE-NAME}}
  name: istio-ingressgateway
  namespace: istio-system
spec:
  ports:
{ports}  externalIPs: [{EXTERNAL_IP}]
  selector: {{app: istio-ingressgateway, istio: ingressgateway}}
  sessionAffinity: None
  type: ClusterIP
"
        ),
    )?;
    let said = desk.refused("kubectl create -f istio-svc.yaml")?;
    ensure!(said.contains("already exists"), "{said}");
    desk.bash("kubectl delete service istio-ingressgateway -n istio-system")?;
    desk.bash("kubectl create -f istio-svc.yaml")?;
    let services = desk.bash("kubectl get svc -n istio-system istio-ingressgateway")?;
    ensure!(
        services.contains("ClusterIP") && services.contains(EXTERNAL_IP),
        "{services}"
    );
    Ok(())
}

async fn page_answers(mesh: &Mesh) -> anyhow::Result<()> {
    let address = inside::at(EXTERNAL_IP, PORTS[0].1)?;
    let pid = mesh.pid("platform")?;
    eventually("the product page at the external address", async || {
        let mut stream = inside::connect(pid, address).await?;
        let request = b"GET /productpage HTTP/1.1\r\nhost: bookinfo\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let first = answer.lines().next().unwrap_or_default();
        ensure!(first == "HTTP/1.1 200 OK", "{first}");
        ensure!(answer.contains("The Comedy of Errors"));
        Ok(())
    })
    .await
}

async fn measure(desk: &Desk, mesh: &Mesh) -> anyhow::Result<()> {
    if find_tool("wrk", "Debian's package wrk", "load from wrk").is_none() {
        return Ok(());
    }
    let line = format!(
        "export GATEWAY_URL={EXTERNAL_IP}:80; wrk -t1 -c1 -d5s http://${{GATEWAY_URL}}/productpage"
    );
    // Where the external address is the machine's: in the platform's own network.
    let said = tempfile::NamedTempFile::new()?;
    let mut command = desk.command(&line);
    command.stdout(File::create(said.path())?);
    command.stderr(File::options().append(true).open(said.path())?);
    let mut child = inside::spawn(mesh.pid("platform")?, command).await?;
    let status = tokio::task::spawn_blocking(move || child.wait()).await??;
    let said = std::fs::read_to_string(said.path())?;
    ensure!(status.success() && said.contains("Requests/sec:"), "{said}");
    // What went wrong has a line of its own.
    ensure!(
        !said.contains("Non-2xx") && !said.contains("Socket errors"),
        "{said}"
    );
    eprintln!("{said}");
    Ok(())
}

/// The file "configures mutual TLS authentication between Envoy sidecars": without a certificate of the
/// mesh nobody gets an answer of a sidecar.
async fn plain_text_is_refused(mesh: &Mesh) -> anyhow::Result<()> {
    let pods = mesh.wait_ready("default", "app=productpage", 1).await?;
    let status = pods[0].status.as_ref().context("a status")?;
    let ip = status.pod_ip.as_deref().context("an address")?;
    let mut stream = inside::connect(mesh.pid("platform")?, inside::at(ip, 9080)?).await?;
    stream
        .write_all(b"GET /productpage HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    // It is closed, by a reset or in order.
    let _ = stream.read_to_end(&mut answer).await;
    ensure!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Grafana is an addon of its own here. The article forwards to port 3000 of the machine, which may be
/// somebody's; the test takes a free one.
async fn look_at_grafana(desk: &Desk, mesh: &Mesh, kubectl: &Kubectl) -> anyhow::Result<()> {
    let image = [
        "image",
        "add",
        "--name",
        &mesh.name,
        "docker.io/grafana/grafana",
    ];
    mesh.lateen_ok(&[&image[..], &["--", "sh", "-c", GRAFANA]].concat())?;
    desk.bash("kubectl apply -f <(istioctl manifest addon grafana)")?;
    mesh.wait_ready("istio-system", "app=grafana", 1).await?;
    let pods = desk.bash("kubectl get po -n istio-system")?;
    let mut names = pods.split_whitespace();
    let pod = names.find(|word| word.starts_with("grafana-"));
    let pod = pod.with_context(|| pods.clone())?;
    let forward = kubectl.forward(&[pod, "-n", "istio-system", ":3000"])?;
    let page = Http::new(forward.address()).get("/").await?;
    ensure!(
        page.status == 200 && page.body.contains("\"title\": \"Istio Mesh Dashboard\""),
        "{}",
        page.status
    );
    Ok(())
}
