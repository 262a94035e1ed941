//! Rules that are applied, changed and deleted in any order, under load: the only requests that may
//! fail are those that the rules in force tell to fail, and these tell none to.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use lateen_e2e::{Mesh, eventually, http::Load};
use serde_json::json;

use super::{access_logs::with_mesh_config, resilience::lossless, shared};

/// Asks productpage for what it asks reviews for, whose status it passes on.
const REVIEWS: &str = "/api/v1/products/0/reviews";
/// Requests a second.
const RATE: u32 = 200;
/// Changes, one right after the other.
const N_STEPS: usize = 150;

/// One object: what it is called, and what its `spec` may be.
struct Object {
    kind: &'static str,
    name: &'static str,
    specs: &'static [&'static str],
    /// Whether its rules name subsets of reviews, so that they need the DestinationRule.
    needs_subsets: bool,
}

/// Where the DestinationRule with the subsets is, and the VirtualService that names them.
const SUBSETS: usize = 0;
const REVIEWS_RULE: usize = 1;

const OBJECTS: [Object; 6] = [
    Object {
        kind: "DestinationRule",
        name: "reviews",
        specs: &[
            "{host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]}",
            "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, \
             subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]}",
            "{host: reviews, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}, \
             subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}, \
             trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: end-user}}}}]}",
        ],
        needs_subsets: false,
    },
    Object {
        kind: "VirtualService",
        name: "reviews",
        specs: &[
            "{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}",
            "{hosts: [reviews], http: [{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v1}}]}, \
             {route: [{destination: {host: reviews, subset: v1}, weight: 30}, {destination: {host: reviews, subset: v3}, weight: 70}]}]}",
            "{hosts: [reviews], http: [{timeout: 20s, retries: {attempts: 3, retryOn: '5xx'}, \
             mirror: {host: reviews, subset: v1}, route: [{destination: {host: reviews, subset: v3}}]}]}",
        ],
        needs_subsets: true,
    },
    Object {
        kind: "VirtualService",
        name: "details",
        specs: &[
            "{hosts: [details], http: [{timeout: 15s, route: [{destination: {host: details}}]}]}",
            "{hosts: [details], http: [{headers: {request: {set: {x-way: one}}}, route: [{destination: {host: details, port: {number: 9080}}}]}]}",
        ],
        needs_subsets: false,
    },
    Object {
        kind: "DestinationRule",
        name: "everything",
        specs: &[
            "{host: '*.svc.cluster.local', trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}",
            "{host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
        ],
        needs_subsets: false,
    },
    Object {
        kind: "ServiceEntry",
        name: "beyond",
        specs: &[
            "{hosts: [beyond.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 192.0.2.1}]}",
            "{hosts: [beyond.example.com], ports: [{number: 9080, name: http, protocol: HTTP}, {number: 9443, name: tls, protocol: TLS}], \
             resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2}]}",
            "{hosts: ['*.example.com'], ports: [{number: 9080, name: http, protocol: HTTP}], resolution: NONE}",
        ],
        needs_subsets: false,
    },
    Object {
        kind: "ServiceEntry",
        name: "bytes",
        specs: &[
            "{hosts: [bytes.example.com], addresses: [192.0.2.10], ports: [{number: 9080, name: tcp, protocol: TCP}], \
             resolution: STATIC, endpoints: [{address: 192.0.2.3}]}",
            "{hosts: [bytes.example.com], addresses: [192.0.2.0/28], ports: [{number: 9080, name: tcp, protocol: TCP}, \
             {number: 9081, name: tcp-more, protocol: TCP}], resolution: NONE, location: MESH_EXTERNAL}",
        ],
        needs_subsets: false,
    },
];

impl Object {
    fn yaml(&self, spec: &str) -> String {
        let (kind, name) = (self.kind, self.name);
        format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    }
}

pub(crate) async fn any_order_of_rules_costs_no_request(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let seed = match std::env::var("LATEEN_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..),
    };
    eprintln!("the order is that of LATEEN_SEED={seed}");
    let random = fastrand::Rng::with_seed(seed);
    let log = json!({"accessLogFile": "/dev/stdout"});
    with_mesh_config(mesh, log, async || walk(mesh, random).await).await
}

async fn walk(mesh: &Mesh, mut random: fastrand::Rng) -> anyhow::Result<()> {
    let load = Load::start(mesh.gateway(), REVIEWS, RATE);
    let mut state = State::default();
    let walked = async {
        for _ in 0..N_STEPS {
            state.step(mesh, &mut random).await?;
            if load.n_failures() > 0 {
                return Ok(());
            }
        }
        state.pinned(mesh).await
    }
    .await;
    let outcome = load.finish().await?;
    for index in state.in_force.keys().rev() {
        mesh.delete(&OBJECTS[*index].yaml("{}")).await?;
    }
    walked?;
    let lost = lossless(&outcome);
    if lost.is_err() {
        // Envoy writes its lines every ten seconds.
        tokio::time::sleep(Duration::from_secs(11)).await;
        eprintln!("{:#?}\n{}", state.history, refusals(mesh).await?);
    }
    lost
}

/// The lines of the access logs on the way about requests that were not answered by 200.
async fn refusals(mesh: &Mesh) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    let params = LogParams {
        container: Some("istio-proxy".into()),
        timestamps: true,
        ..LogParams::default()
    };
    let mut text = String::new();
    let on_the_way = ListParams::default().labels("app in (productpage, reviews)");
    for pod in pods.list(&on_the_way).await? {
        let name = pod.name_any();
        for line in pods.logs(&name, &params).await?.lines() {
            if line.contains(" HTTP/1.1\" ") && !line.contains(" HTTP/1.1\" 200 ") {
                text.push_str(&format!("{name}: {line}\n"));
            }
        }
    }
    Ok(text)
}

/// What is in force, and how it came to be.
#[derive(Default)]
struct State {
    /// Object and spec, by their places.
    in_force: BTreeMap<usize, usize>,
    history: Vec<String>,
}

impl State {
    async fn apply(&mut self, mesh: &Mesh, index: usize, spec: usize) -> anyhow::Result<()> {
        let object = &OBJECTS[index];
        self.note("apply", object, spec);
        mesh.apply(&object.yaml(object.specs[spec])).await?;
        self.in_force.insert(index, spec);
        Ok(())
    }

    async fn delete(&mut self, mesh: &Mesh, index: usize) -> anyhow::Result<()> {
        let object = &OBJECTS[index];
        self.note("delete", object, self.in_force[&index]);
        mesh.delete(&object.yaml("{}")).await?;
        self.in_force.remove(&index);
        Ok(())
    }

    fn note(&mut self, verb: &str, object: &Object, spec: usize) {
        let now = jiff::Timestamp::now();
        let (kind, name) = (object.kind, object.name);
        self.history
            .push(format!("{now} {verb} {kind} {name} as {spec}"));
    }

    /// Applies, changes or deletes one object, and whatever must be there before it or gone before
    /// it.
    async fn step(&mut self, mesh: &Mesh, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let index = random.usize(..OBJECTS.len());
        let object = &OBJECTS[index];
        if self.in_force.contains_key(&index) && random.u8(..3) == 0 {
            let dependent = |other: &usize| index == SUBSETS && OBJECTS[*other].needs_subsets;
            let first: Vec<_> = self.in_force.keys().copied().filter(dependent).collect();
            for index in first.into_iter().chain([index]) {
                self.delete(mesh, index).await?;
            }
            return Ok(());
        }
        if object.needs_subsets && !self.in_force.contains_key(&SUBSETS) {
            self.apply(mesh, SUBSETS, 0).await?;
        }
        let spec = random.usize(..object.specs.len());
        self.apply(mesh, index, spec).await
    }

    /// After all of that, the next rule is in force as if it were the first.
    async fn pinned(&mut self, mesh: &Mesh) -> anyhow::Result<()> {
        for index in [SUBSETS, REVIEWS_RULE] {
            self.apply(mesh, index, 0).await?;
        }
        eventually("v1 alone to answer", async || {
            for _ in 0..10 {
                let answer = mesh.gateway().get(REVIEWS).await?;
                ensure!(answer.body.contains("reviews-v1-"), "{}", answer.body);
            }
            Ok(())
        })
        .await
    }
}
