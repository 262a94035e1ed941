//! Routing rules, seen from outside through the ingress gateway.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use lateen_e2e::{Mesh, eventually, http::Http, mesh, samples::networking};
use lateen_testkit::conformance;
use serde_json::Value;

use super::shared;

const REVIEWS: &str = "/api/v1/products/0/reviews";

/// The version of reviews that answered, read from the name of its pod.
async fn version(http: &Http, cookie: Option<&str>) -> anyhow::Result<String> {
    let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", *cookie)).collect();
    let answer = http.send("GET", REVIEWS, &headers, "").await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    let body: Value = serde_json::from_str(&answer.body)?;
    let pod = body["podname"]
        .as_str()
        .context("reviews does not name its pod")?;
    let version = pod
        .split('-')
        .nth(1)
        .context("the pod's name has no version")?;
    Ok(version.to_owned())
}

/// How often each version answers, in as many requests.
async fn versions(http: &Http, n_requests: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut seen = BTreeMap::new();
    for _ in 0..n_requests {
        *seen.entry(version(http, None).await?).or_default() += 1;
    }
    Ok(seen)
}

/// Logs in at the productpage and returns its cookie.
async fn login(http: &Http, user: &str) -> anyhow::Result<String> {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = http
        .send("POST", "/login", &form, &format!("username={user}&passwd="))
        .await?;
    let cookie = answer
        .header("set-cookie")
        .context("no cookie after login")?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

/// Waits until `n` requests in a row are all answered by one version.
async fn only(http: &Http, cookie: Option<&str>, expect: &str) -> anyhow::Result<()> {
    eventually(&format!("only {expect}"), async || {
        for _ in 0..20 {
            let seen = version(http, cookie).await?;
            ensure!(seen == expect, "{seen} answered");
        }
        Ok(())
    })
    .await
}

/// Applies samples, runs the check, and takes them away again whatever it found.
async fn with_samples(
    mesh: &Mesh,
    names: &[&str],
    check: impl AsyncFnOnce(&Http) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    mesh.apply(&networking("destination-rule-all.yaml")?)
        .await?;
    for name in names {
        mesh.apply(&networking(name)?)
            .await
            .with_context(|| format!("cannot apply {name}"))?;
    }
    let result = check(&mesh.gateway()).await;
    for name in names.iter().rev().chain(&["destination-rule-all.yaml"]) {
        mesh.delete(&networking(name)?).await?;
    }
    result
}

pub(crate) async fn every_version_of_reviews_appears(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let http = shared(mesh).gateway();
    let seen = versions(&http, 90).await?;
    ensure!(seen.keys().eq(["v1", "v2", "v3"].iter()), "{seen:?}");
    Ok(())
}

pub(crate) async fn all_v1_pins_v1(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    with_samples(
        shared(mesh),
        &["virtual-service-all-v1.yaml"],
        async |http| {
            only(http, None, "v1").await?;
            let seen = versions(http, 100).await?;
            ensure!(seen.keys().eq(["v1"].iter()), "{seen:?}");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn weights_split_traffic(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let samples = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-90-10.yaml",
    ];
    with_samples(shared(mesh), &samples, async |http| {
        eventually("both versions", async || {
            let seen = versions(http, 50).await?;
            ensure!(seen.keys().eq(["v1", "v2"].iter()), "{seen:?}");
            Ok(())
        })
        .await?;
        let seen = versions(http, 2000).await?;
        let share = seen.get("v2").copied().unwrap_or_default() as f64 / 2000.0;
        ensure!((0.07..=0.13).contains(&share), "v2 got {share}: {seen:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn jason_sees_v2(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let samples = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
    ];
    with_samples(shared(mesh), &samples, async |http| {
        let jason = login(http, "jason").await?;
        let other = login(http, "mallory").await?;
        only(http, Some(&jason), "v2").await?;
        only(http, Some(&other), "v1").await?;
        only(http, None, "v1").await
    })
    .await
}

pub(crate) async fn a_delay_acts_on_jason_alone(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let samples = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
        "virtual-service-ratings-test-delay.yaml",
    ];
    with_samples(shared(mesh), &samples, async |http| {
        let jason = login(http, "jason").await?;
        only(http, None, "v1").await?;
        // Ratings answer after 7 s and productpage gives up on reviews after two times 3 s.
        eventually("jason to be delayed", async || {
            let start = Instant::now();
            let answer = http
                .send("GET", "/productpage", &[("cookie", &jason)], "")
                .await?;
            let took = start.elapsed();
            ensure!(took >= Duration::from_secs(6), "took {took:?}");
            ensure!(
                answer.body.contains("Error fetching product reviews"),
                "no error panel"
            );
            Ok(())
        })
        .await?;
        let start = Instant::now();
        let answer = http.get("/productpage").await?;
        ensure!(
            answer.status == 200 && !answer.body.contains("Error fetching"),
            "{answer:?}"
        );
        ensure!(start.elapsed() < Duration::from_secs(5), "others wait too");
        Ok(())
    })
    .await
}

pub(crate) async fn an_abort_acts_on_jason_alone(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let samples = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
        "virtual-service-ratings-test-abort.yaml",
    ];
    with_samples(shared(mesh), &samples, async |http| {
        let jason = login(http, "jason").await?;
        only(http, Some(&jason), "v2").await?;
        eventually("jason to miss the ratings", async || {
            let answer = http
                .send("GET", "/productpage", &[("cookie", &jason)], "")
                .await?;
            ensure!(
                answer
                    .body
                    .contains("Ratings service is currently unavailable"),
                "has ratings"
            );
            Ok(())
        })
        .await?;
        let answer = http.get("/productpage").await?;
        ensure!(
            !answer.body.contains("currently unavailable"),
            "others miss them too"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_change_is_live_on_every_proxy(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    with_samples(mesh, &["virtual-service-all-v1.yaml"], async |http| {
        only(http, None, "v1").await?;
        let proxies = sidecars(mesh).await?;
        let before = generation(mesh).await?;
        let change = networking("virtual-service-reviews-v3.yaml")?;
        let start = Instant::now();
        mesh.apply(&change).await?;
        let applied = start.elapsed();
        let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
        let waits = proxies
            .iter()
            .map(|pod| has_route(&pods, pod, "|v3|reviews.", start));
        let took = futures::future::try_join_all(waits).await?;
        let last = took.into_iter().max().unwrap_or_default();
        eventually("every proxy to acknowledge what is new", async || {
            let (newest, acknowledged) = generation(mesh).await?;
            ensure!(newest > before.0, "{newest} is not new");
            ensure!(acknowledged.iter().all(|one| *one == newest), "{acknowledged:?} of {newest}");
            // The sidecars of this test, and the gateway at least.
            ensure!(acknowledged.len() > proxies.len(), "{acknowledged:?}");
            Ok(())
        })
        .await?;
        // The figure is for the reader; how long a loaded machine takes decides no test.
        eprintln!(
            "a route change was taken after {applied:?}, in the dumps of all {} sidecars after {last:?}",
            proxies.len()
        );
        only(http, None, "v3").await
    })
    .await
}

/// The pods of Bookinfo.
async fn sidecars(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::default_namespaced(mesh.client().await?);
    let all = pods.list(&ListParams::default()).await?;
    let names: Vec<_> = all
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect();
    ensure!(names.len() >= 6, "{names:?}");
    Ok(names)
}

/// How long it took until the routes of a proxy, by its own word, name this.
async fn has_route(
    pods: &Api<Pod>,
    pod: &str,
    wanted: &str,
    start: Instant,
) -> anyhow::Result<Duration> {
    eventually(&format!("{pod} to have {wanted}"), async || {
        let dump = mesh::get(pods, pod, 15000, "/config_dump").await?;
        let took = start.elapsed();
        let dump: Value = serde_json::from_str(&dump)?;
        let configs = dump["configs"].as_array().context("no dump")?;
        let routes = configs.iter().find(|config| {
            let kind = config["@type"].as_str().unwrap_or_default();
            kind.ends_with("RoutesConfigDump")
        });
        let routes = routes.context("no routes")?.to_string();
        ensure!(routes.contains(wanted), "not yet");
        Ok(took)
    })
    .await
}

/// The newest state of the control plane, and what each proxy has acknowledged.
async fn generation(mesh: &Mesh) -> anyhow::Result<(u64, Vec<u64>)> {
    let pods = mesh.wait_ready("istio-system", "app=istiod", 1).await?;
    let istiod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let text = mesh
        .pod_get("istio-system", &istiod, 8080, "/debug/syncz")
        .await?;
    let proxies: Vec<Value> = serde_json::from_str(&text)?;
    let newest = proxies
        .iter()
        .filter_map(|proxy| proxy["generation"].as_u64())
        .max();
    let acknowledged = proxies
        .iter()
        .map(|proxy| proxy["generation_acked"].as_u64().unwrap_or(0));
    Ok((newest.context("no proxy")?, acknowledged.collect()))
}

pub(crate) async fn every_networking_sample_is_accepted_or_rightly_refused(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let Some(folder) = conformance("samples/bookinfo/networking") else {
        return Ok(());
    };
    let mut n_files = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let yaml = std::fs::read_to_string(&path)?;
        // A certificate is cert-manager's kind, which no mesh serves.
        let foreign = yaml.contains("cert-manager.io");
        match shared(mesh).apply(&yaml).await {
            Ok(()) if foreign => bail!("{} names a kind that is not served", path.display()),
            Ok(()) => {}
            Err(_) if foreign => {}
            Err(error) => bail!("{} was refused: {error:#}", path.display()),
        }
        if !path.ends_with("bookinfo-gateway.yaml") && !foreign {
            shared(mesh).delete(&yaml).await?;
        }
        n_files += 1;
    }
    // Some samples share names with the gateway that the other tests need.
    shared(mesh)
        .apply(&networking("bookinfo-gateway.yaml")?)
        .await?;
    eventually("the gateway to serve again", async || {
        let answer = shared(mesh).gateway().get("/productpage").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await?;
    ensure!(n_files > 15, "only {n_files} samples");
    Ok(())
}
