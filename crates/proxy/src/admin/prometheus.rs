//! `/stats/prometheus`.

use axum::extract::State;
use axum::response::Response;
use lateen_telemetry::metrics::Writer;

use super::Context;
use crate::cluster::is_gauge;
use crate::worker::Shared;

pub(super) async fn handle(State(context): State<Context>) -> Response {
    let shared = &context.shared;
    let mut text = shared.stats.registry.expose();
    let mut out = Writer::default();
    server(&context, &mut out);
    shared.stats.write_listeners(&mut out);
    clusters(shared, &mut out);
    datagrams(shared, &mut out);
    text.push_str(&out.into_text());
    lateen_telemetry::admin::prometheus(text)
}

fn server(context: &Context, out: &mut Writer) {
    let shared = &context.shared;
    let mut single = |name: &str, kind: &str, value: u64| {
        out.kind(name, kind);
        out.sample(name, "", value);
    };
    let [accepted, refused] = &shared.stats.updates;
    single("envoy_server_live", "gauge", u64::from(shared.is_live()));
    single("envoy_server_uptime", "gauge", shared.uptime().as_secs());
    single(
        "envoy_control_plane_update_success",
        "counter",
        accepted.value(),
    );
    single(
        "envoy_control_plane_update_rejected",
        "counter",
        refused.value(),
    );
    let unread = super::n_unread(context) as u64;
    single("lateen_unread_fields", "gauge", unread);
}

/// What listeners and clusters count of datagrams.
fn datagrams(shared: &Shared, out: &mut Writer) {
    let labelled = |label: &str, value: &str| format!("{label}=\"{value}\"");
    let of_listeners = shared.stats.all_udp().into_iter();
    let of_listeners =
        of_listeners.map(|(prefix, udp)| (labelled("udp_prefix", &prefix), udp.list()));
    families("envoy_udp_", &of_listeners.collect::<Vec<_>>(), out);
    let snapshot = shared.snapshot.load_full();
    let of_clusters = snapshot.clusters.values().map(|cluster| {
        let label = labelled("cluster_name", &cluster.spec.name);
        (label, cluster.stats.udp.list())
    });
    let mut of_clusters: Vec<_> = of_clusters.filter(|(_, list)| !list.is_empty()).collect();
    of_clusters.sort();
    families("envoy_cluster_udp_", &of_clusters, out);
}

/// Writes lists of the same names, each with its labels, as one family for each name.
fn families(prefix: &str, lists: &[(String, Vec<(&'static str, u64)>)], out: &mut Writer) {
    let Some((_, first)) = lists.first() else {
        return;
    };
    for (index, (stat, _)) in first.iter().enumerate() {
        let name = format!("{prefix}{stat}");
        out.kind(&name, if is_gauge(stat) { "gauge" } else { "counter" });
        for (labels, list) in lists {
            out.sample(&name, labels, list[index].1);
        }
    }
}

fn clusters(shared: &Shared, out: &mut Writer) {
    let snapshot = shared.snapshot.load_full();
    let mut used: Vec<_> = snapshot
        .clusters
        .values()
        .filter(|cluster| cluster.stats.is_used())
        .collect();
    used.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let lists: Vec<_> = used
        .iter()
        .map(|cluster| {
            let labels = format!("cluster_name=\"{}\"", cluster.spec.name);
            (labels, cluster.stats.list())
        })
        .collect();
    families("envoy_cluster_", &lists, out);
}
