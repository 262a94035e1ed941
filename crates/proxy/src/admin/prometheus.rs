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
        .map(|cluster| (&cluster.spec.name, cluster.stats.list()))
        .collect();
    let Some((_, first)) = lists.first() else {
        return;
    };
    for (index, (stat, _)) in first.iter().enumerate() {
        let name = format!("envoy_cluster_{stat}");
        out.kind(&name, if is_gauge(stat) { "gauge" } else { "counter" });
        for (cluster, list) in &lists {
            out.sample(&name, &format!("cluster_name=\"{cluster}\""), list[index].1);
        }
    }
}
