//! Access logs of sidecars, in the form that the mesh's configuration asks for.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{LogParams, Patch, PatchParams},
};
use lateen_e2e::{
    Idle, Mesh, eventually, idle, inside,
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

/// Sets these fields of the mesh's configuration while the check runs.
pub(crate) async fn with_mesh_config(
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

/// The newest line with these words in the log of a pod's sidecar.
async fn log_line(mesh: &Mesh, pod: &str, target: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    let params = LogParams {
        container: Some("istio-proxy".into()),
        ..LogParams::default()
    };
    let log = pods.logs(pod, &params).await?;
    let line = log.lines().rfind(|line| line.contains(target));
    Ok(line.context("no line")?.to_owned())
}

pub(crate) async fn they_are_as_asked_for(mesh: &Option<Mesh>) -> anyhow::Result<()> {
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

/// Asks until both sides have written such a line about it; the lines, the client's first. Which of the
/// requests they are about does not matter: Envoy keeps lines for ten seconds before it writes them.
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
                log_line(mesh, &client.name, path).await,
                log_line(mesh, &server.name, path).await,
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
        bail!("no line about {path}")
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
        let line: Value = serde_json::from_str(&log_line(mesh, &client.name, "/own/").await?)?;
        let what = line["what"].as_str().unwrap_or_default();
        let expected = json!({"what": what, "code": 200});
        ensure!(line == expected && what.starts_with("GET /own/"), "{line}");
        Ok(())
    })
    .await
}
