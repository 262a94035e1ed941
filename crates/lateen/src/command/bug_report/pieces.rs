//! The pieces of a report: where each is in the archive, and how it is had.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures::{AsyncBufRead, AsyncBufReadExt, FutureExt, future::LocalBoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, LogParams},
    core::GroupVersionKind,
};
use lateen_api::kinds;
use lateen_core::ports;
use serde_json::{Value, json};

use super::selection::{self, Range, Selection};
use crate::cli::Global;
use crate::client;
use crate::command::{analyze::Analyze, version};

/// The container of every proxy, and that of the control plane.
const PROXY: &str = "istio-proxy";
const DISCOVERY: &str = "discovery";
/// Lines of a log, the newest of them.
const LINES: usize = 100_000;
/// How long one question may take: a proxy that hangs must not hold up the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kinds of Kubernetes that a mesh depends on, by group, version, kind and plural; and whether those of
/// the control plane's namespace alone are wanted.
#[rustfmt::skip]
const OF_PLATFORM: [(&str, &str, &str, &str, bool); 19] = [
    ("", "v1", "Node", "nodes", false),
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "Pod", "pods", false),
    ("", "v1", "Service", "services", false),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    ("", "v1", "Event", "events", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Secret", "secrets", true),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", false),
    ("apps", "v1", "Deployment", "deployments", false),
    ("apps", "v1", "DaemonSet", "daemonsets", false),
    ("apps", "v1", "StatefulSet", "statefulsets", false),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("coordination.k8s.io", "v1", "Lease", "leases", true),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", false),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", false),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
];

/// Pages of the control plane that say what it knows and does.
const DEBUG: [&str; 19] = [
    "adsz",
    "authorizationz",
    "cachez",
    "clusterz",
    "configz",
    "connections",
    "distributionz",
    "endpointShardz",
    "endpointz",
    "inject",
    "instancesz",
    "mesh",
    "networkz",
    "patchz",
    "push_status",
    "registryz",
    "resourcesz",
    "syncz",
    "telemetryz",
];

/// Pages of a proxy, and the names of their files.
const ADMIN_PAGES: [(&str, &str); 8] = [
    ("/config_dump?include_eds", "config_dump.json"),
    ("/clusters?format=json", "clusters.json"),
    ("/listeners?format=json", "listeners.json"),
    ("/certs", "certs.json"),
    ("/server_info", "server_info.json"),
    ("/stats", "stats.txt"),
    ("/stats/prometheus", "stats.prometheus.txt"),
    ("/memory", "memory.json"),
];

/// What a piece became.
pub(super) enum Had {
    Text(String),
    /// An object of the cluster, or a list of them.
    Object(Value),
    /// There is none here, which is no fault.
    Nothing,
}

/// A piece of the report.
pub(super) struct Piece {
    /// Where it is in the archive.
    pub(super) path: String,
    pub(super) fetch: LocalBoxFuture<'static, anyhow::Result<Had>>,
}

/// What is asked for.
pub(super) struct Plan {
    pub(super) client: Client,
    pub(super) global: Global,
    pub(super) include: Vec<Selection>,
    pub(super) exclude: Vec<Selection>,
    pub(super) range: Range,
    pub(super) admin_port: u16,
}

impl Plan {
    /// Everything that there is to fetch.
    ///
    /// # Errors
    /// When the pods cannot be listed, without which nobody is known who could be asked.
    pub(super) async fn pieces(&self) -> anyhow::Result<Vec<Piece>> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let pods = pods.list(&ListParams::default()).await;
        let pods = pods.context("cannot list the cluster's pods")?;
        let mut pieces = self.of_cluster();
        for pod in &pods {
            if self.is_control_plane(pod) {
                self.of_control_plane(pod, &mut pieces);
            } else if self.wants(pod) {
                self.of_proxy(pod, &mut pieces);
            }
        }
        Ok(pieces)
    }

    fn is_control_plane(&self, pod: &Pod) -> bool {
        let meta = &pod.metadata;
        let app = meta.labels.as_ref().and_then(|labels| labels.get("app"));
        meta.namespace.as_deref() == Some(&self.global.istio_namespace)
            && app.is_some_and(|app| app == "istiod")
    }

    fn wants(&self, pod: &Pod) -> bool {
        selection::containers(pod).any(|name| name == PROXY)
            && (self.include.is_empty() || self.include.iter().any(|one| one.has(pod)))
            && !self.exclude.iter().any(|one| one.has(pod))
    }

    fn of_cluster(&self) -> Vec<Piece> {
        let of_platform = OF_PLATFORM
            .iter()
            .map(|(group, version, kind, plural, is_own)| {
                let gvk = GroupVersionKind::gvk(group, version, kind);
                let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
                (format!("cluster/{plural}.yaml"), resource, *is_own)
            });
        let of_mesh = kinds::ALL.iter().map(|kind| {
            let gvk = GroupVersionKind::gvk(kind.group, kind.versions[0], kind.kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
            let path = format!("cluster/config/{}.{}.yaml", kind.plural, kind.group);
            (path, resource, false)
        });
        let mut pieces: Vec<Piece> = of_platform
            .chain(of_mesh)
            .map(|(path, resource, is_own)| {
                let (client, global) = (self.client.clone(), self.global.clone());
                piece(path, async move {
                    let api: Api<DynamicObject> = match is_own {
                        true => Api::namespaced_with(client, &global.istio_namespace, &resource),
                        false => Api::all_with(client, &resource),
                    };
                    let items = client::list(&api, &resource).await?;
                    match items.is_empty() {
                        true => Ok(Had::Nothing),
                        false => Ok(Had::Object(json!({
                            "apiVersion": "v1", "kind": "List", "items": items,
                        }))),
                    }
                })
            })
            .collect();
        let client = self.client.clone();
        pieces.push(piece("cluster/version.yaml", async move {
            let version = client.apiserver_version().await?;
            Ok(Had::Object(serde_json::to_value(version)?))
        }));
        let global = self.global.clone();
        pieces.push(piece("versions.txt", async move {
            Ok(Had::Text(version::in_words(&global).await?))
        }));
        let global = self.global.clone();
        pieces.push(piece("analyze/analysis.txt", async move {
            Ok(Had::Text(Analyze::whole(&global).await?))
        }));
        pieces
    }

    fn of_control_plane(&self, pod: &Pod, pieces: &mut Vec<Piece>) {
        let folder = folder("istiod", pod);
        self.logs(pod, DISCOVERY, &folder, pieces);
        if !client::is_running(pod) {
            return;
        }
        let debug = DEBUG.iter().map(|page| {
            let path = format!("/debug/{page}");
            (ports::CONTROL_PLANE_DEBUG, path, format!("debug/{page}"))
        });
        let metrics = ("/metrics".to_owned(), "metrics.txt".to_owned());
        let metrics = (ports::CONTROL_PLANE_METRICS, metrics.0, metrics.1);
        let log = (
            ports::CONTROLZ,
            "/scopej/".to_owned(),
            "log-levels.json".to_owned(),
        );
        for (port, page, file) in debug.chain([metrics, log]) {
            pieces.push(self.page(pod, port, page, format!("{folder}/{file}")));
        }
    }

    fn of_proxy(&self, pod: &Pod, pieces: &mut Vec<Piece>) {
        let folder = folder("proxies", pod);
        self.logs(pod, PROXY, &folder, pieces);
        let more = self.include.iter().flat_map(|one| one.of_containers(pod));
        for container in more.filter(|name| *name != PROXY) {
            self.logs(pod, container, &folder, pieces);
        }
        if !client::is_running(pod) {
            return;
        }
        for (page, file) in ADMIN_PAGES {
            let path = format!("{folder}/{file}");
            pieces.push(self.page(pod, self.admin_port, page.to_owned(), path));
        }
    }

    fn page(&self, pod: &Pod, port: u16, page: String, path: String) -> Piece {
        let client = self.client.clone();
        let (namespace, name) = names(pod);
        piece(path, async move {
            let text = client::pod_get(&client, &namespace, &name, port, &page).await;
            match text {
                Ok(text) => Ok(Had::Text(text)),
                // Not every proxy and every version has each page.
                Err(error) if format!("{error:#}").contains("answered 404") => Ok(Had::Nothing),
                Err(error) => Err(error),
            }
        })
    }

    /// The log of a container, and of the one before it where that ended.
    fn logs(&self, pod: &Pod, container: &str, folder: &str, pieces: &mut Vec<Piece>) {
        pieces.push(self.log(pod, container, false, format!("{folder}/{container}.log")));
        if restarts(pod, container) > 0 {
            let path = format!("{folder}/{container}.previous.log");
            pieces.push(self.log(pod, container, true, path));
        }
    }

    fn log(&self, pod: &Pod, container: &str, previous: bool, path: String) -> Piece {
        let (namespace, name) = names(pod);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let range = self.range;
        let container = container.to_owned();
        piece(path, async move {
            let params = params(container, previous, range);
            let log = match range.end {
                None => pods.logs(&name, &params).await?,
                Some(end) => until(pods.log_stream(&name, &params).await?, end).await?,
            };
            Ok(Had::Text(log))
        })
    }
}

/// What is asked of a log. Where it ends before now, the newest lines are not those that are wanted.
fn params(container: String, previous: bool, range: Range) -> LogParams {
    LogParams {
        container: Some(container),
        previous,
        tail_lines: range.end.is_none().then_some(LINES as i64),
        since_seconds: range.start.map(seconds_since),
        timestamps: range.end.is_some(),
        ..LogParams::default()
    }
}

/// A piece whose fetching is given up after a while.
fn piece(
    path: impl Into<String>,
    fetch: impl Future<Output = anyhow::Result<Had>> + 'static,
) -> Piece {
    let fetch = async move {
        let fetched = tokio::time::timeout(PATIENCE, fetch).await;
        fetched.with_context(|| format!("no answer within {} s", PATIENCE.as_secs()))?
    };
    Piece {
        path: path.into(),
        fetch: fetch.boxed_local(),
    }
}

fn names(pod: &Pod) -> (String, String) {
    let meta = &pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}

fn folder(of: &str, pod: &Pod) -> String {
    let (namespace, name) = names(pod);
    format!("{of}/{namespace}/{name}")
}

fn restarts(pod: &Pod, container: &str) -> i32 {
    let status = pod.status.iter();
    let statuses = status.flat_map(|status| {
        let native = status.init_container_statuses.iter().flatten();
        native.chain(status.container_statuses.iter().flatten())
    });
    let mut own = statuses.filter(|status| status.name == container);
    own.next().map_or(0, |status| status.restart_count)
}

/// At least one, as zero would be refused.
fn seconds_since(start: SystemTime) -> i64 {
    let since = start.elapsed().unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX).max(1)
}

/// The newest lines up to a time, by the time that the platform puts before each. Lines come in their
/// order, so that nothing is read behind it.
async fn until(log: impl AsyncBufRead + Unpin, end: SystemTime) -> std::io::Result<String> {
    let mut log = log;
    let mut lines: VecDeque<String> = VecDeque::new();
    loop {
        let mut line = Vec::new();
        if log.read_until(b'\n', &mut line).await? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let at = line.split(' ').next().unwrap_or_default();
        if selection::time(at).is_ok_and(|at| at > end) {
            break;
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logs_end_when_they_are_to() {
        let log =
            "2026-11-26T18:00:00.5Z a\n2026-11-26T18:00:01Z b\nno time\n2026-11-26T19:00:00Z c\n";
        let end = selection::time("2026-11-26T18:00:01Z").unwrap();
        let read = until(log.as_bytes(), end).await.unwrap();
        assert_eq!(
            read,
            "2026-11-26T18:00:00.5Z a\n2026-11-26T18:00:01Z b\nno time\n"
        );
    }

    /// The newest lines of a log may all be behind the end.
    #[tokio::test]
    async fn an_end_is_counted_from_and_not_cut_off() {
        let line = |hour: u8, n: usize| format!("2026-11-26T{hour}:00:00Z line {n}\n");
        let early = (0..LINES + 1).map(|n| line(18, n));
        let late = (0..LINES).map(|n| line(20, n));
        let log: String = early.chain(late).collect();
        let end = selection::time("2026-11-26T19:00:00Z").unwrap();
        let read = until(log.as_bytes(), end).await.unwrap();
        assert_eq!(read.lines().count(), LINES);
        assert!(read.starts_with(&line(18, 1)) && read.ends_with(&line(18, LINES)));

        let range = |end| Range { start: None, end };
        let asked = |end| params("c".to_owned(), false, range(end));
        assert_eq!(asked(Some(end)).tail_lines, None);
        assert!(asked(Some(end)).timestamps);
        assert_eq!(asked(None).tail_lines, Some(LINES as i64));
    }
}
