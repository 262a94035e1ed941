//! The plugin of nodes: as a container runtime runs it, in the networks of pods, and as it is put on a
//! node. The API server is the test's own, as the local platform has no nodes to put it on.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use anyhow::{Context, ensure};
use lateen_e2e::{
    eventually,
    http::Http,
    mesh::{binary, free_port, text},
};
use lateen_testkit::Network;
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 7);
const UID: &str = "0b52f2a1-0000-4000-8000-000000000001";
/// The flags that injected pods have, of the container that checks.
const FLAGS: [&str; 16] = [
    "istio-iptables",
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "--run-validation",
];

/// The network of a pod, which goes with this.
struct PodNetwork {
    file: File,
    end: Option<mpsc::Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl PodNetwork {
    fn new() -> anyhow::Result<Self> {
        let (made, opened) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            Network::of_pod(POD, move |_| {
                let file = File::open("/proc/thread-self/ns/net").expect("a namespace");
                made.send(file).expect("the test waits for it");
                // It ends when the other side is dropped.
                let _ = ended.recv();
            });
        });
        let file = opened.recv().context("no network; this test needs root")?;
        Ok(Self {
            file,
            end: Some(end),
            holder: Some(holder),
        })
    }

    /// As a runtime names it.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs the command of the pod's containers in it.
    fn iptables(&self, args: &[&str]) -> anyhow::Result<Output> {
        let run = || {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let mut command = Command::new(binary()?);
            Ok(command.arg("pilot-agent").args(args).output()?)
        };
        std::thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
    }

    /// Whether the container that checks would end well.
    fn is_captured(&self) -> anyhow::Result<bool> {
        let output = self.iptables(&[&FLAGS[..], &["--skip-rule-apply"]].concat())?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(126) => Ok(false),
            code => anyhow::bail!("{code:?}: {}", text(&output)),
        }
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Err(panic)) = self.holder.take().map(JoinHandle::join) {
            eprintln!("{panic:?}");
        }
    }
}

/// An API server that has what it is told, by paths.
struct Server {
    address: SocketAddr,
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let objects = Arc::new(Mutex::new(BTreeMap::new()));
        let held = objects.clone();
        // It goes with the process, and nothing of the test waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = held.clone();
                std::thread::spawn(move || answer(stream, &held));
            }
        });
        Ok(Self { address, objects })
    }

    fn set(&self, path: &str, object: Value) {
        self.objects
            .lock()
            .expect("whole")
            .insert(path.to_owned(), object);
    }

    fn kubeconfig(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        let path = folder.join("kubeconfig");
        fs::write(&path, file.to_string())?;
        Ok(path)
    }
}

/// One request. A watch of the list says nothing, and lasts.
fn answer(mut stream: TcpStream, objects: &Mutex<BTreeMap<String, Value>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = "Content-Type: application/json\r\nConnection: close";
    if query.split('&').any(|pair| pair.starts_with("watch=")) {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{head}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .ok()?;
        reader.read_line(&mut line).ok()?;
        return None;
    }
    let found = objects.lock().expect("whole").get(path).cloned();
    let (status, body) = match found {
        Some(object) => ("200 OK", object),
        None => (
            "404 Not Found",
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": format!("{path} not found"), "reason": "NotFound", "code": 404}),
        ),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

fn pod(name: &str, init: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "uid": UID},
        "spec": {"nodeName": "node-1", "containers": [], "initContainers": init},
    })
}

fn checked(name: &str) -> Value {
    let args = [&FLAGS[..], &["--skip-rule-apply"]].concat();
    pod(name, json!([{"name": "istio-validation", "args": args}]))
}

/// What a runtime asks.
struct Asked<'a> {
    command: &'a str,
    network: &'a Path,
    args: String,
    kubeconfig: &'a Path,
}

impl Asked<'_> {
    fn ask(&self) -> anyhow::Result<(bool, Value)> {
        let config = json!({
            "cniVersion": "1.0.0", "name": "k8s", "type": "istio-cni", "log_level": "info",
            "kubernetes": {"kubeconfig": self.kubeconfig, "exclude_namespaces": ["kube-system"]},
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.7/24"}]},
        });
        let mut plugin = Command::new(binary()?);
        plugin
            .arg("istio-cni")
            .env("CNI_COMMAND", self.command)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_NETNS", self.network)
            .env("CNI_ARGS", format!("IgnoreUnknown=1;{}", self.args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut plugin = plugin.spawn()?;
        let mut stdin = plugin.stdin.take().context("a pipe")?;
        write!(stdin, "{config}")?;
        drop(stdin);
        let output = plugin.wait_with_output()?;
        let said = String::from_utf8(output.stdout)?;
        let said = match said.trim() {
            "" => Value::Null,
            said => serde_json::from_str(said).with_context(|| said.to_owned())?,
        };
        Ok((output.status.success(), said))
    }
}

fn named(namespace: &str, name: &str, uid: &str) -> String {
    format!(
        "K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID={uid}"
    )
}

#[test]
fn a_runtime_has_traffic_captured() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start()?;
    server.set("/api/v1/namespaces/shop/pods/a", checked("a"));
    server.set(
        "/api/v1/namespaces/shop/pods/plain",
        pod("plain", json!([])),
    );
    let kubeconfig = server.kubeconfig(folder.path())?;
    let network = PodNetwork::new()?;
    let at = network.path();
    let asked = |command, args: String| Asked {
        command,
        network: &at,
        args,
        kubeconfig: &kubeconfig,
    };
    let (well, said) = asked("VERSION", String::new()).ask()?;
    let spoken = said["supportedVersions"].as_array().context("versions")?;
    ensure!(
        well && spoken.contains(&json!("0.3.1")) && spoken.contains(&json!("1.0.0")),
        "{said}"
    );

    // Pods that do not ask for it, and namespaces of which nobody is asked.
    for args in [
        named("shop", "plain", UID),
        named("kube-system", "nobody", UID),
        String::new(),
    ] {
        let (well, said) = asked("ADD", args).ask()?;
        ensure!(
            well && said["ips"][0]["address"] == "10.244.0.7/24",
            "{said}"
        );
        ensure!(!network.is_captured()?);
    }
    // Another pod of the name, one that is not there, a network that is not a pod's.
    for (args, code, words) in [
        (named("shop", "a", "another"), 11, "another one of the name"),
        (named("shop", "gone", UID), 11, "not found"),
    ] {
        let (well, said) = asked("ADD", args).ask()?;
        ensure!(
            !well && said["code"] == code && said["msg"].to_string().contains(words),
            "{said}"
        );
    }
    let of_node = Asked {
        network: Path::new("/proc/self/ns/net"),
        ..asked("ADD", named("shop", "a", UID))
    };
    let (well, said) = of_node.ask()?;
    ensure!(
        !well && said["code"] == 100 && said["msg"].to_string().contains("node's own"),
        "{said}"
    );
    let without = Asked {
        kubeconfig: Path::new("/nonesuch"),
        ..asked("ADD", named("shop", "a", UID))
    };
    let (well, said) = without.ask()?;
    ensure!(
        !well && said["msg"].to_string().contains("istio-cni-node"),
        "{said}"
    );
    ensure!(!network.is_captured()?);

    let (well, said) = asked("CHECK", named("shop", "a", UID)).ask()?;
    ensure!(
        !well && said["msg"].to_string().contains("the rules are gone"),
        "{said}"
    );
    let (well, said) = asked("ADD", named("shop", "a", UID)).ask()?;
    ensure!(
        well && said["ips"][0]["address"] == "10.244.0.7/24",
        "{said}"
    );
    ensure!(network.is_captured()?);
    for command in ["CHECK", "DEL"] {
        let (well, said) = asked(command, named("shop", "a", UID)).ask()?;
        ensure!(well && said.is_null(), "{command}: {said}");
    }
    let gone = Asked {
        network: Path::new(""),
        ..asked("DEL", named("shop", "a", UID))
    };
    ensure!(gone.ask()?.0, "a network that is gone already");
    Ok(())
}

/// `install-cni` at work.
struct Agent {
    process: Child,
    http: Http,
}

impl Agent {
    /// As the DaemonSet starts it, with folders below one of the test's.
    fn start(folder: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut agent = Command::new(binary()?);
        agent
            .args(["install-cni", "--account"])
            .arg(folder.join("account"))
            .env("KUBERNETES_NODE_NAME", "node-1")
            .env("POD_NAMESPACE", "istio-system")
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .env("KUBERNETES_SERVICE_PORT", "443")
            .env("KUBECONFIG", kubeconfig)
            .env("MOUNTED_CNI_NET_DIR", folder.join("net"))
            .env("MOUNTED_CNI_BIN_DIR", folder.join("bin"))
            .env("MOUNTED_PROC", folder.join("proc"))
            .env("HEALTH_PORT", port.to_string())
            .env("MONITORING_PORT", free_port()?.to_string());
        Ok(Self {
            process: agent.spawn()?,
            http: Http::new((Ipv4Addr::LOCALHOST, port).into()),
        })
    }

    async fn ready(&self, is_so: bool) -> anyhow::Result<()> {
        eventually("the agent", async || {
            let status = self.http.get("/readyz").await?.status;
            ensure!(status == if is_so { 200 } else { 503 }, "{status}");
            Ok(())
        })
        .await
    }

    fn stop(mut self) -> anyhow::Result<()> {
        kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let status = self.process.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has been waited for is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_node_has_the_plugin_and_old_pods_are_captured() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(on_a_node())
}

async fn on_a_node() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    for name in ["account", "net", "bin", "proc/1/ns", "proc/7/ns"] {
        fs::create_dir_all(at(name))?;
    }
    fs::write(at("account/token"), "t")?;
    fs::write(at("account/ca.crt"), "PEM")?;
    let server = Server::start()?;
    let kubeconfig = server.kubeconfig(folder.path())?;
    // A pod that was made before, whose container that checks has failed.
    let network = PodNetwork::new()?;
    symlink("/proc/self/ns/net", at("proc/1/ns/net"))?;
    symlink(network.path(), at("proc/7/ns/net"))?;
    fs::write(at("proc/7/cgroup"), format!("0::/kubepods/pod{UID}/c1\n"))?;
    let mut old = checked("old");
    old["status"] = json!({"podIP": POD, "initContainerStatuses": [{
        "name": "istio-validation", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 126}},
    }]});
    let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [old]});
    server.set("/api/v1/pods", list);

    ensure!(!network.is_captured()?);
    let agent = Agent::start(folder.path(), &kubeconfig)?;
    agent.ready(false).await?;
    eventually("the old pod to be captured", async || {
        ensure!(network.is_captured()?);
        Ok(())
    })
    .await?;
    // The cluster's own network comes.
    let own = json!({"cniVersion": "0.4.0", "name": "k8s", "plugins": [{"type": "bridge"}]});
    fs::write(at("net/10-k8s.conflist"), own.to_string())?;
    agent.ready(true).await?;
    let read = |name: &str| -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(at(name))?)?)
    };
    let chained = read("net/10-k8s.conflist")?;
    ensure!(chained["plugins"][1]["type"] == "istio-cni", "{chained}");
    let excluded = &chained["plugins"][1]["kubernetes"]["exclude_namespaces"];
    ensure!(
        *excluded == json!(["istio-system", "kube-system"]),
        "{excluded}"
    );
    // What it put there is the plugin, under its own name.
    let plugin = Command::new(at("bin/istio-cni"))
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        text(&plugin).contains("standard input"),
        "{}",
        text(&plugin)
    );

    // Another one comes after it, and then none.
    let daemon = "/apis/apps/v1/namespaces/istio-system/daemonsets/istio-cni-node";
    let there = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "istio-cni-node"},
        "spec": {"selector": {}, "template": {}}});
    server.set(daemon, there);
    agent.stop()?;
    ensure!(read("net/10-k8s.conflist")? == chained);
    server.objects.lock().expect("whole").remove(daemon);
    let agent = Agent::start(folder.path(), &kubeconfig)?;
    agent.ready(true).await?;
    agent.stop()?;
    ensure!(read("net/10-k8s.conflist")? == own);
    let left: Vec<_> = ["net", "bin"]
        .iter()
        .flat_map(|name| fs::read_dir(at(name)))
        .flatten()
        .collect();
    ensure!(left.len() == 1, "{left:?}");
    ensure!(network.is_captured()?, "pods that run are left alone");
    Ok(())
}
