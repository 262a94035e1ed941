//! A catalogue of the test's own, that answers blocking queries as Consul does.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_core::Protocol;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use super::*;
use crate::{Freshness, Provider, World, state::State};

/// What the catalogue holds: instances by service, and how often it was asked.
#[derive(Clone, Default)]
struct Catalogue {
    index: u64,
    services: BTreeMap<String, Value>,
    broken: bool,
    /// The list of services is refused, not what is asked of one.
    is_list_refused: bool,
    /// Its index is another one with each answer.
    is_restless: bool,
}

struct Fake {
    state: Arc<watch::Sender<Catalogue>>,
    n_queries: Arc<Mutex<usize>>,
    address: String,
}

impl Fake {
    async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(watch::Sender::new(Catalogue {
            index: 1,
            ..Catalogue::default()
        }));
        let n_queries = Arc::new(Mutex::new(0));
        let (shared, count) = (state.clone(), n_queries.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, count) = (shared.clone(), count.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    *count.lock().unwrap() += 1;
                    let state = state.subscribe();
                    async move { Ok::<_, Infallible>(answer(request, state).await) }
                });
                tokio::spawn(async move {
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Fake {
            state,
            n_queries,
            address,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Catalogue)) {
        self.state.send_modify(|state| {
            change(state);
            state.index += 1;
        });
    }
}

/// Waits while nothing has changed since the index that the query names.
async fn answer(
    request: Request<Incoming>,
    mut state: watch::Receiver<Catalogue>,
) -> Response<Full<bytes::Bytes>> {
    let text = |status, index: u64, body: Value| {
        Response::builder()
            .status(status)
            .header("x-consul-index", index)
            .body(Full::from(body.to_string()))
            .unwrap()
    };
    if request
        .headers()
        .get("x-consul-token")
        .map(|v| v.as_bytes())
        != Some(b"secret")
    {
        return text(StatusCode::FORBIDDEN, 0, json!("ACL not found"));
    }
    let query = request.uri().query().unwrap_or_default();
    let known = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("index="))
        .map_or(0, |index| index.parse().unwrap());
    let path = request.uri().path();
    let is_list = path == "/v1/catalog/services";
    let mut now = state
        .wait_for(|state| {
            let is_refused = state.broken || (is_list && state.is_list_refused);
            state.index != known || state.is_restless || is_refused
        })
        .await
        .unwrap()
        .clone();
    if now.is_restless {
        now.index = known + 1;
    }
    if now.broken || (is_list && now.is_list_refused) {
        return text(StatusCode::INTERNAL_SERVER_ERROR, 0, json!("no leader"));
    }
    match path.strip_prefix("/v1/health/service/") {
        Some(name) => {
            let instances = now.services.get(name).cloned();
            text(StatusCode::OK, now.index, instances.unwrap_or(json!([])))
        }
        None => {
            assert_eq!(path, "/v1/catalog/services");
            let names = now.services.keys().map(|name| (name.clone(), json!([])));
            let mut names: serde_json::Map<_, _> = names.collect();
            names.insert("consul".into(), json!([]));
            text(StatusCode::OK, now.index, names.into())
        }
    }
}

fn instance(address: &str, port: u16, tags: Value, status: &str) -> Value {
    json!({
        "Node": {"Node": "n", "Address": "10.0.0.9", "Datacenter": "dc1", "Meta": null},
        "Service": {
            "ID": address, "Service": "s", "Tags": tags, "Address": address, "Port": port,
            "Meta": {"protocol": "http"}, "Weights": {"Passing": 3, "Warning": 1},
        },
        "Checks": [{"Status": "passing"}, {"Status": status}],
    })
}

/// Folds what the source says until the condition holds.
async fn until(
    state: &mut State,
    updates: &mut mpsc::Receiver<Update>,
    condition: impl Fn(&World, Freshness) -> bool,
) {
    let folding = async {
        loop {
            state.fold();
            let freshness = state.freshness(state::CATALOG);
            if condition(state.world(), freshness) {
                return;
            }
            let update = updates.recv().await.expect("the source goes on");
            state.apply(update);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), folding)
        .await
        .expect("in good time");
}

fn consul(address: &str, token: Option<&str>) -> Consul {
    Consul {
        address: address.to_owned(),
        token: token.map(str::to_owned),
        namespace: "istio-system".into(),
    }
}

#[tokio::test]
async fn a_catalogue_is_followed_and_what_it_said_is_kept() {
    let fake = Fake::start().await;
    fake.change(|it| {
        let two = json!([
            instance("10.0.0.1", 80, json!(["version|v1", "plain"]), "passing"),
            instance("", 80, json!(["version=v2"]), "critical"),
        ]);
        it.services.insert("web".into(), two);
    });
    let mut tasks = JoinSet::new();
    let (updates_tx, mut updates) = mpsc::channel(64);
    consul(&fake.address, Some("secret")).start(&mut tasks, updates_tx);
    let mut state = State::new("cluster.local".into());
    state.expect_catalog();
    let web = lateen_core::ServiceId::new("istio-system", "web.service.consul");

    until(&mut state, &mut updates, |world, fresh| {
        world.services.contains_key(&web) && fresh == Freshness::Fresh
    })
    .await;
    let service = state.world().services[&web].clone();
    assert_eq!(service.provider, Provider::Consul);
    assert_eq!(service.ports.len(), 1);
    assert_eq!(
        (&*service.ports[0].name, service.ports[0].protocol),
        ("http", Protocol::Http)
    );
    let endpoints = state.world().endpoints(&web, "http").to_vec();
    let said: Vec<_> = endpoints
        .iter()
        .map(|e| (&*e.address, e.labels.value("version"), e.ready, e.weight))
        .collect();
    let expected = [
        ("10.0.0.1", Some("v1"), true, 3),
        ("10.0.0.9", Some("v2"), false, 3),
    ];
    assert_eq!(said, expected);
    assert_eq!(endpoints[0].locality.region, "dc1");

    // Instances and services come and go.
    fake.change(|it| {
        let ports = json!([
            instance("10.0.0.1", 80, json!(null), "warning"),
            instance("10.0.0.1", 8080, json!([]), "passing"),
        ]);
        it.services.insert("web".into(), ports);
        it.services.insert(
            "db".into(),
            json!([instance("10.0.0.3", 5432, json!([]), "passing")]),
        );
    });
    let db = lateen_core::ServiceId::new("istio-system", "db.service.consul");
    until(&mut state, &mut updates, |world, _| {
        let names = world.services.get(&web).map(|web| web.ports.len());
        world.services.contains_key(&db) && names == Some(2)
    })
    .await;
    let weight = state.world().endpoints(&web, "http-80")[0].weight;
    assert_eq!(weight, 1, "that of an instance with a warning");

    // A catalogue that fails is stale, not empty.
    fake.change(|it| it.broken = true);
    until(&mut state, &mut updates, |_, fresh| {
        fresh == Freshness::Stale
    })
    .await;
    assert!(state.world().services.contains_key(&db));
    fake.change(|it| {
        it.broken = false;
        it.services.remove("db");
    });
    until(&mut state, &mut updates, |world, fresh| {
        !world.services.contains_key(&db) && fresh == Freshness::Fresh
    })
    .await;
    assert!(state.world().services.contains_key(&web));

    // While nothing changes, nobody asks.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = *fake.n_queries.lock().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*fake.n_queries.lock().unwrap(), before);
}

/// A catalogue with one service that is followed, and what follows it.
async fn followed() -> (Fake, State, mpsc::Receiver<Update>, JoinSet<()>) {
    let fake = Fake::start().await;
    let one = json!([instance("10.0.0.1", 80, json!([]), "passing")]);
    fake.change(|it| drop(it.services.insert("web".into(), one)));
    let mut tasks = JoinSet::new();
    let (updates_tx, mut updates) = mpsc::channel(64);
    consul(&fake.address, Some("secret")).start(&mut tasks, updates_tx);
    let mut state = State::new("cluster.local".into());
    state.expect_catalog();
    until(&mut state, &mut updates, |_, fresh| {
        fresh == Freshness::Fresh
    })
    .await;
    (fake, state, updates, tasks)
}

#[tokio::test]
async fn a_list_that_is_not_heard_is_stale_whatever_is_heard_of_its_services() {
    let (fake, mut state, mut updates, _tasks) = followed().await;
    fake.change(|it| it.is_list_refused = true);
    until(&mut state, &mut updates, |_, fresh| {
        fresh == Freshness::Stale
    })
    .await;
    let web = lateen_core::ServiceId::new("istio-system", "web.service.consul");
    let two = json!([
        instance("10.0.0.1", 80, json!([]), "passing"),
        instance("10.0.0.2", 80, json!([]), "passing"),
    ]);
    fake.change(|it| drop(it.services.insert("web".into(), two)));
    until(&mut state, &mut updates, |world, _| {
        world.endpoints(&web, "http").len() == 2
    })
    .await;
    assert_eq!(state.freshness(state::CATALOG), Freshness::Stale);
    fake.change(|it| it.is_list_refused = false);
    until(&mut state, &mut updates, |_, fresh| {
        fresh == Freshness::Fresh
    })
    .await;
}

#[tokio::test]
async fn a_catalogue_that_never_rests_is_asked_at_a_pace() {
    let (fake, mut state, mut updates, _tasks) = followed().await;
    let (before, since) = (*fake.n_queries.lock().unwrap(), Instant::now());
    fake.change(|it| it.is_restless = true);
    while since.elapsed() < PACE * 5 {
        let update = updates.recv().await.expect("the source goes on");
        state.apply(update);
    }
    let asked = *fake.n_queries.lock().unwrap() - before;
    // The list and one service, each once for a pace begun, and what was under way.
    let paces = since.elapsed().as_millis() / PACE.as_millis() + 1;
    assert!(asked as u128 <= 2 * (paces + 1), "{asked} in {paces}");
}

#[tokio::test]
async fn a_refusal_is_told() {
    let fake = Fake::start().await;
    let client = Client::new(&consul(&fake.address, None)).unwrap();
    let answer: Result<Answer<Value>, String> = client.get("/v1/catalog/services", 0).await;
    let error = answer.err().expect("refused");
    assert!(
        error.contains("403") && error.contains("ACL not found"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_waited_on_is_an_error() {
    let fake = Fake::start().await;
    fake.state.send_modify(|state| state.index = 0);
    let client = Client::new(&consul(&fake.address, Some("secret"))).unwrap();
    let query = client.get::<Value>("/v1/health/service/a", 1).await;
    let error = query.err().expect("no index");
    assert!(error.contains("X-Consul-Index"), "{error}");
}

#[test]
fn addresses_that_cannot_be_used_are_named() {
    for (address, part) in [
        ("https://127.0.0.1:8501", "HTTPS is not supported"),
        ("127.0.0.1:8500", "is not"),
        ("http://127.0.0.1:8500/v1", "has a path"),
        ("", "is not"),
    ] {
        let error = consul(address, None).check().unwrap_err();
        assert!(error.contains(part), "{address}: {error}");
    }
}
