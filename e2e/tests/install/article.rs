//! An article's walk from nothing to a measured application, with its commands: a file applied in one go,
//! the sample injected on the way to `kubectl`, a gateway Service made by hand, and load from `wrk`.
//!
//! The article ends at Grafana, which is an addon of its own; here the port of an application's pod is
//! forwarded in its place.

use std::{
    fs::File,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, bail, ensure};
use lateen_e2e::{Kubectl, Mesh, eventually, http::Http, inside, mesh::text};

use super::{alone, block_on};

/// What stands in for the address of the reader's machine.
const EXTERNAL_IP: &str = "192.168.0.1";

/// Every workload of the mesh takes nothing but mutual TLS.
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

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

/// The files and programs of the one who reads the article.
struct Desk {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    path: String,
}

impl Desk {
    /// With `istioctl` and `kubectl` where the shell finds them.
    fn of(mesh: &Mesh, kubectl: &Kubectl) -> anyhow::Result<Desk> {
        let folder = tempfile::tempdir()?;
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs)?;
        symlink(mesh.binary(), programs.join("istioctl"))?;
        let program = kubectl.program();
        if program.is_absolute() {
            symlink(program, programs.join("kubectl"))?;
        }
        let others = std::env::var("PATH").unwrap_or_default();
        Ok(Desk {
            kubeconfig: mesh.kubeconfig()?,
            path: format!("{}:{others}", programs.display()),
            folder,
        })
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, text)?)
    }

    /// A line of the article, in a shell.
    fn bash(&self, line: &str) -> anyhow::Result<String> {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .output()?;
        if !output.status.success() {
            bail!("{line}: {}", text(&output));
        }
        Ok(text(&output))
    }
}

#[test]
fn the_articles_commands_lead_to_a_measured_application() -> anyhow::Result<()> {
    let _alone = alone();
    for index in 0.. {
        let mesh = Mesh::platform("article")?;
        let kubectls = mesh.needed_kubectls()?;
        let Some(kubectl) = kubectls.get(index) else {
            return mesh.stop().map(drop);
        };
        let desk = Desk::of(&mesh, kubectl)?;
        install(&desk)?;
        deploy(&desk, &mesh)?;
        make_the_gateway_service(&desk)?;
        block_on(async {
            page_answers(&mesh).await?;
            measure(&mesh).await?;
            forward(&desk, kubectl).await
        })?;
        mesh.stop()?;
    }
    Ok(())
}

fn install(desk: &Desk) -> anyhow::Result<()> {
    let file = "install/kubernetes/istio-demo-auth.yaml";
    desk.write(file, "")?;
    desk.bash(&format!(
        "istioctl manifest generate --set profile=demo > {file}"
    ))?;
    // In one go: namespaces and definitions come first.
    desk.bash(&format!("kubectl apply -f {file}"))?;
    desk.write("strict.yaml", STRICT)?;
    desk.bash("kubectl -n istio-system rollout status deployment/istiod --timeout=120s")?;
    desk.bash("kubectl apply -f strict.yaml")?;
    let services = desk.bash("kubectl get service -n istio-system")?;
    for service in ["istiod", "istio-ingressgateway", "istio-egressgateway"] {
        ensure!(services.contains(service), "{services}");
    }
    for gateway in ["istio-ingressgateway", "istio-egressgateway"] {
        desk.bash(&format!(
            "kubectl -n istio-system rollout status deployment/{gateway} --timeout=120s"
        ))?;
    }
    let pods = desk.bash("kubectl get pods -n istio-system")?;
    ensure!(
        pods.lines().skip(1).all(|line| line.contains("1/1")),
        "{pods}"
    );
    Ok(())
}

fn deploy(desk: &Desk, mesh: &Mesh) -> anyhow::Result<()> {
    for (folder, name) in [
        ("platform/kube", "bookinfo.yaml"),
        ("networking", "bookinfo-gateway.yaml"),
    ] {
        let yaml = lateen_bookinfo::manifest(name).context("a sample")?;
        // The sample of the article's release names the Service's port, today's the pod's.
        let yaml = yaml.replace("number: 8080", "number: 80");
        desk.write(&format!("samples/bookinfo/{folder}/{name}"), &yaml)?;
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
    desk.bash("kubectl delete service istio-ingressgateway -n istio-system")?;
    desk.bash("kubectl create -f istio-svc.yaml")?;
    let services = desk.bash("kubectl get svc -n istio-system istio-ingressgateway")?;
    ensure!(
        services.contains("ClusterIP") && services.contains(EXTERNAL_IP),
        "{services}"
    );
    Ok(())
}

/// From where the external address is the machine's: the platform's own network.
async fn from_the_node(mesh: &Mesh, program: &str, args: &[&str]) -> anyhow::Result<Output> {
    let said = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(program);
    command.args(args).stdout(File::create(said.path())?);
    command.stderr(File::options().append(true).open(said.path())?);
    let mut child = inside::spawn(mesh.pid("platform")?, command).await?;
    let status = tokio::task::spawn_blocking(move || child.wait()).await??;
    Ok(Output {
        status,
        stdout: std::fs::read(said.path())?,
        stderr: Vec::new(),
    })
}

async fn page_answers(mesh: &Mesh) -> anyhow::Result<()> {
    let address = inside::at(EXTERNAL_IP, PORTS[0].1)?;
    let pid = mesh.pid("platform")?;
    eventually("the product page at the external address", async || {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

async fn measure(mesh: &Mesh) -> anyhow::Result<()> {
    let wrk = Path::new("/usr/bin/wrk");
    if !wrk.exists() {
        eprintln!("wrk is not on this machine (package wrk), its load is not sent");
        return Ok(());
    }
    let url = format!("http://{EXTERNAL_IP}:80/productpage");
    let output = from_the_node(mesh, "/usr/bin/wrk", &["-t1", "-c1", "-d5s", &url]).await?;
    let said = text(&output);
    ensure!(
        output.status.success() && said.contains("Requests/sec:"),
        "{said}"
    );
    // What went wrong has a line of its own.
    ensure!(
        !said.contains("Non-2xx") && !said.contains("Socket errors"),
        "{said}"
    );
    eprintln!("{said}");
    Ok(())
}

async fn forward(desk: &Desk, kubectl: &Kubectl) -> anyhow::Result<()> {
    let pod = desk.bash("kubectl get po -l app=productpage -o name")?;
    let forward = kubectl.forward(&[pod.trim(), ":9080"])?;
    let page = Http::new(forward.address()).get("/productpage").await?;
    ensure!(
        page.status == 200 && page.body.contains("The Comedy of Errors"),
        "{}",
        page.status
    );
    Ok(())
}
