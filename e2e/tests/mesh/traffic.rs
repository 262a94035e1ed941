//! What a rule does beside choosing where a request goes: copies, log lines, names that DNS resolves.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{LogParams, Patch, PatchParams},
};
use lateen_e2e::{
    Idle, Mesh, eventually,
    idle::{self, demand},
    inside,
    web::{self, Web},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::shared;

const PORT: u16 = 8000;
const TCP: u16 = 8001;

async fn get(client: &Idle, ip: &str, host: &str, target: &str) -> anyhow::Result<(u16, String)> {
    let stream = client.connect(inside::at(ip, PORT)?).await?;
    web::get(stream, host, target, &[("user-agent", "e2e/1")]).await
}

/// Version 1 answers; version 2 gets copies, and is slow and broken.
const MIRROR: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mirrored}
spec:
  host: mirrored
  subsets:
  - {name: v1, labels: {app: mirrored-v1}}
  - {name: v2, labels: {app: mirrored-v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mirrored}
spec:
  hosts: [mirrored]
  http:
  - route: [{destination: {host: mirrored, subset: v1}}]
    mirror: {host: mirrored, subset: v2}
";

pub(crate) async fn copies_go_to_the_mirror(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mirrored"},
        "spec": {"selector": {"group": "mirrored"}, "ports": [{"name": "http", "port": PORT}]},
    })
    .to_string();
    mesh.apply(&service).await?;
    let labels = || json!({"group": "mirrored"});
    let first = Idle::with_labels(mesh, "mirrored-v1", labels()).await?;
    let second = Idle::with_labels(mesh, "mirrored-v2", labels()).await?;
    let client = Idle::start(mesh, "mirror-client").await?;
    let result = mirrored(mesh, &first, &second, &client).await;
    mesh.delete(MIRROR).await?;
    mesh.delete(&service).await?;
    for pod in [first, second, client] {
        pod.remove(mesh).await?;
    }
    result
}

async fn mirrored(mesh: &Mesh, first: &Idle, second: &Idle, client: &Idle) -> anyhow::Result<()> {
    let answering = Web::serve(first.listen(PORT).await?, 200, "first", Duration::ZERO);
    let pause = Duration::from_millis(300);
    let copied = Web::serve(second.listen(PORT).await?, 500, "second", pause);
    let ip = mesh.cluster_ip("mirrored").await?;
    mesh.apply(MIRROR).await?;
    eventually("copies", async || {
        let answer = get(client, &ip, "mirrored", "/warm").await?;
        ensure!(answer == (200, "first".to_owned()), "{answer:?}");
        ensure!(
            copied.seen().iter().any(|seen| seen.target == "/warm"),
            "none"
        );
        Ok(())
    })
    .await?;
    for n in 0..20 {
        let answer = get(client, &ip, "mirrored", &format!("/all?{n}")).await?;
        ensure!(answer == (200, "first".to_owned()), "{answer:?}");
    }
    let n_all = |web: &Web| {
        let seen = web.seen();
        seen.iter()
            .filter(|seen| seen.target.starts_with("/all"))
            .count()
    };
    eventually("all copies", async || {
        ensure!(n_all(&copied) == 20, "{}", n_all(&copied));
        Ok(())
    })
    .await?;
    ensure!(n_all(&answering) == 20, "{}", n_all(&answering));
    let seen = copied.seen();
    let host = &seen.last().context("copies")?.headers["host"];
    ensure!(host == "mirrored-shadow", "{host:?}");
    eventually(
        "the mirror's sidecar to know whose copies those are",
        async || {
            let metrics = second.metrics(mesh).await?;
            let labels = [
                "reporter=\"destination\"",
                "source_workload=\"mirror-client\"",
            ];
            demand(&metrics, "istio_requests_total", &labels, 20.0)
        },
    )
    .await?;
    some_copies(mesh, client, &ip, &copied).await
}

/// With a percentage, that share of the requests is copied: here 50 of 200 on average, with a
/// standard deviation of 6.
async fn some_copies(mesh: &Mesh, client: &Idle, ip: &str, copied: &Web) -> anyhow::Result<()> {
    let share = MIRROR.replace(
        "    mirror: {host: mirrored, subset: v2}",
        "    mirror: {host: mirrored, subset: v2}\n    mirrorPercentage: {value: 25}",
    );
    mesh.apply(&share).await?;
    eventually("fewer copies", async || {
        let before = copied.seen().len();
        for _ in 0..200 {
            get(client, ip, "mirrored", "/share").await?;
        }
        // A copy that is still to come would only make this number smaller than it is.
        let n_copies = copied.seen().len() - before;
        ensure!((15..=85).contains(&n_copies), "{n_copies} of 200");
        Ok(())
    })
    .await
}

/// Sets these fields of the mesh's configuration while the check runs.
async fn with_mesh_config(
    mesh: &Mesh,
    fields: Value,
    check: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(mesh.client().await?, "istio-system");
    let data = maps.get("istio").await?.data.unwrap_or_default();
    let before = data.get("mesh").context("no mesh configuration")?.clone();
    let mut config: Value = serde_yaml_ng::from_str(&before)?;
    let all = config.as_object_mut().context("an object")?;
    all.extend(fields.as_object().cloned().unwrap_or_default());
    let set = async |text: &str| {
        let patch = Patch::Merge(json!({"data": {"mesh": text}}));
        maps.patch("istio", &PatchParams::default(), &patch).await
    };
    set(&config.to_string()).await?;
    let result = check().await;
    set(&before).await?;
    result
}

/// The line about a request in the log of a pod's sidecar.
async fn log_line(mesh: &Mesh, pod: &str, target: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    let params = LogParams {
        container: Some("istio-proxy".into()),
        ..LogParams::default()
    };
    let log = pods.logs(pod, &params).await?;
    let line = log.lines().find(|line| line.contains(target));
    Ok(line.context("no line")?.to_owned())
}

pub(crate) async fn access_logs_are_as_asked_for(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let ports = [("http", PORT), ("tcp-bytes", TCP)];
    let service = idle::service("logged", "logged-server", &ports);
    mesh.apply(&service).await?;
    let server = Idle::start(mesh, "logged-server").await?;
    let client = Idle::start(mesh, "logged-client").await?;
    let web = Web::serve(server.listen(PORT).await?, 200, "logged", Duration::ZERO);
    let result = async {
        let text = json!({"accessLogFile": "/dev/stdout"});
        with_mesh_config(mesh, text, async || {
            text_lines(mesh, &server, &client).await?;
            tcp_lines(mesh, &server, &client).await
        })
        .await?;
        let json = json!({"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON"});
        with_mesh_config(mesh, json, async || {
            json_lines(mesh, &server, &client).await
        })
        .await?;
        let fields = json!({"what": "%REQ(:METHOD)% %REQ(:PATH)%", "code": "%RESPONSE_CODE%"});
        let own = json!({
            "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "accessLogFormat": fields.to_string(),
        });
        with_mesh_config(mesh, own, async || own_lines(mesh, &client).await).await
    }
    .await;
    drop(web);
    mesh.delete(&service).await?;
    client.remove(mesh).await?;
    server.remove(mesh).await?;
    result
}

/// Asks until both sides have written a line about it; the lines, the client's first.
async fn lines(
    mesh: &Mesh,
    (server, client): (&Idle, &Idle),
    path: &str,
    is_new: impl Fn(&str) -> bool,
) -> anyhow::Result<[String; 2]> {
    let ip = mesh.cluster_ip("logged").await?;
    let mut n = 0;
    eventually("lines in the new form", async || {
        n += 1;
        let target = format!("{path}/{n}");
        let answer = get(client, &ip, "logged", &target).await?;
        ensure!(answer.0 == 200, "{answer:?}");
        for _ in 0..20 {
            let both = [
                log_line(mesh, &client.name, &target).await,
                log_line(mesh, &server.name, &target).await,
            ];
            if let [Ok(source), Ok(destination)] = both {
                ensure!(
                    is_new(&source) && is_new(&destination),
                    "{source}\n{destination}"
                );
                return Ok([source, destination]);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no line about {target}")
    })
    .await
}

/// Istio's default format, field by field.
async fn text_lines(mesh: &Mesh, server: &Idle, client: &Idle) -> anyhow::Result<()> {
    let [source, destination] = lines(mesh, (server, client), "/text", |line| {
        line.starts_with('[')
    })
    .await?;
    let (at, ip) = (
        format!("{}:{PORT}", server.ip),
        mesh.cluster_ip("logged").await?,
    );
    for (line, fields) in [
        (
            &source,
            vec![
                "\"GET /text/".to_owned(),
                " HTTP/1.1\" 200 - via_upstream - \"-\" 0 6 ".to_owned(),
                "\"e2e/1\"".to_owned(),
                format!("\"logged\" \"{at}\" outbound|{PORT}||logged.default.svc.cluster.local "),
                format!(" {ip}:{PORT} {}:", client.ip),
                " - default".to_owned(),
            ],
        ),
        (
            &destination,
            vec![
                " HTTP/1.1\" 200 - via_upstream - \"-\" 0 6 ".to_owned(),
                format!("\"logged\" \"{at}\" inbound|{PORT}|| "),
                format!(" {at} {}:", client.ip),
                format!(" outbound_.{PORT}_._.logged.default.svc.cluster.local default"),
            ],
        ),
    ] {
        for field in fields {
            ensure!(line.contains(&field), "{field:?} is not in {line}");
        }
    }
    Ok(())
}

/// A TCP connection has a line of the same format, in which what only requests have is missing.
async fn tcp_lines(mesh: &Mesh, server: &Idle, client: &Idle) -> anyhow::Result<()> {
    let listener = server.listen(TCP).await?;
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = Vec::new();
            if stream.read_to_end(&mut question).await.is_ok() {
                // A client that is gone will fail its own check.
                let _ = stream.write_all(b"answer").await;
            }
        }
    });
    let ip = mesh.cluster_ip("logged").await?;
    let mut stream = client.connect(inside::at(&ip, TCP)?).await?;
    stream.write_all(b"ask").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answering.abort();
    ensure!(answer == "answer", "{answer:?}");
    let at = format!("{}:{TCP}", server.ip);
    let name = "logged.default.svc.cluster.local";
    for (pod, fields) in [
        (
            &client.name,
            [
                format!(" \"-\" \"{at}\" outbound|{TCP}||{name} {}:", client.ip),
                format!(" {ip}:{TCP} {}:", client.ip),
            ],
        ),
        (
            &server.name,
            [
                format!(" \"-\" \"{at}\" inbound|{TCP}|| 127.0.0.6:"),
                format!(" {at} {}:", client.ip),
            ],
        ),
    ] {
        let line = eventually("the connection's line", async || {
            log_line(mesh, pod, &format!("|{TCP}|")).await
        })
        .await?;
        let start = "] \"- - -\" 0 - - - \"-\" 3 6 ";
        for field in fields.iter().map(String::as_str).chain([start]) {
            ensure!(line.contains(field), "{field:?} is not in {line}");
        }
    }
    Ok(())
}

async fn json_lines(mesh: &Mesh, server: &Idle, client: &Idle) -> anyhow::Result<()> {
    let both = lines(mesh, (server, client), "/json", |line| {
        line.starts_with('{')
    })
    .await?;
    let clusters = [
        format!("outbound|{PORT}||logged.default.svc.cluster.local"),
        format!("inbound|{PORT}||"),
    ];
    for (line, cluster) in both.iter().zip(clusters) {
        let line: Value = serde_json::from_str(line)?;
        for (field, expected) in [
            ("method", json!("GET")),
            ("protocol", json!("HTTP/1.1")),
            ("authority", json!("logged")),
            ("response_code_details", json!("via_upstream")),
            ("upstream_cluster", json!(cluster)),
            ("upstream_host", json!(format!("{}:{PORT}", server.ip))),
            ("user_agent", json!("e2e/1")),
            ("route_name", json!("default")),
            // Numbers are numbers, and what is missing is null.
            ("response_code", json!(200)),
            ("bytes_sent", json!(6)),
            ("response_flags", json!("-")),
            ("connection_termination_details", Value::Null),
        ] {
            ensure!(
                line[field] == expected,
                "{field} is {} in {line}",
                line[field]
            );
        }
    }
    Ok(())
}

/// A JSON object of the user's own fields.
async fn own_lines(mesh: &Mesh, client: &Idle) -> anyhow::Result<()> {
    let ip = mesh.cluster_ip("logged").await?;
    let mut n = 0;
    eventually("lines with own fields", async || {
        n += 1;
        let target = format!("/own/{n}");
        get(client, &ip, "logged", &target).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let line: Value = serde_json::from_str(&log_line(mesh, &client.name, &target).await?)?;
        let expected = json!({"what": format!("GET {target}"), "code": 200});
        ensure!(line == expected, "{line}");
        Ok(())
    })
    .await
}

/// Names outside of the mesh, behind which stand pods without a sidecar that DNS of the cluster
/// knows as those of a headless Service.
const NAMES: &str = "
apiVersion: v1
kind: Service
metadata: {name: legacy}
spec:
  clusterIP: None
  selector: {group: legacy}
  ports: [{name: http, port: 8000}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: strict}
spec:
  hosts: [strict.example.com]
  addresses: [240.9.9.1]
  resolution: DNS
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: legacy.default.svc.cluster.local}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: logical}
spec:
  hosts: [logical.example.com]
  addresses: [240.9.9.2]
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: legacy.default.svc.cluster.local}]
";

pub(crate) async fn names_are_resolved_by_the_sidecar(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let outside = || json!({"group": "legacy", "sidecar.istio.io/inject": "false"});
    let first = Idle::with_labels(mesh, "legacy-a", outside()).await?;
    let second = Idle::with_labels(mesh, "legacy-b", outside()).await?;
    let client = Idle::start(mesh, "legacy-client").await?;
    let servers = [
        Web::serve(first.listen(PORT).await?, 200, "a", Duration::ZERO),
        Web::serve(second.listen(PORT).await?, 200, "b", Duration::ZERO),
    ];
    mesh.apply(NAMES).await?;
    let result = async {
        eventually("every address of the name to be used", async || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                let answer = get(&client, "240.9.9.1", "strict.example.com", "/").await?;
                ensure!(answer.0 == 200, "{answer:?}");
                seen.insert(answer.1);
            }
            ensure!(seen.iter().eq(["a", "b"]), "{seen:?}");
            Ok(())
        })
        .await?;
        eventually("the logical name to lead somewhere", async || {
            let answer = get(&client, "240.9.9.2", "logical.example.com", "/").await?;
            ensure!(answer.0 == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        let dump = mesh
            .pod_get("default", &client.name, 15000, "/config_dump")
            .await?;
        for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
            ensure!(dump.contains(kind), "no cluster is {kind}");
        }
        Ok(())
    }
    .await;
    drop(servers);
    mesh.delete(NAMES).await?;
    for pod in [first, second, client] {
        pod.remove(mesh).await?;
    }
    result
}
