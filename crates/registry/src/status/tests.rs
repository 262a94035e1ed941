use std::{collections::BTreeMap, convert::Infallible, sync::Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use lateen_api::kinds;
use tokio::time::Instant;

use super::*;

const OWNER: StatusOwner = StatusOwner {
    name: "test",
    conditions: &["Reconciled"],
    controller: "",
};

/// Objects by path, with the API server's rules for versions and the status subresource.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    objects: BTreeMap<String, Value>,
    revision: u64,
    n_reads: usize,
    /// When each write came, and to which object.
    writes: Vec<(Instant, String)>,
    /// How many writes are refused before one is taken, and how.
    refusals: Vec<u16>,
    /// Writes are never answered.
    is_dead: bool,
}

fn path(name: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/a/virtualservices/{name}")
}

fn target(name: &str) -> StatusTarget {
    StatusTarget::new(&kinds::VIRTUAL_SERVICE, "a", name)
}

fn failure(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": "no"});
    (code, body)
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let (code, answer) = server.answer(&head.method, head.uri.path(), &body);
                if code == 0 {
                    std::future::pending::<()>().await;
                }
                let body = kube::client::Body::from(Bytes::from(answer.to_string()));
                let response = Response::builder().status(code).body(body);
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut stored = self.0.lock().expect("no test panics with it held");
        let object = path.trim_end_matches("/status");
        if method == Method::GET {
            stored.n_reads += 1;
            return match stored.objects.get(object) {
                Some(object) => (200, object.clone()),
                None => failure(404),
            };
        }
        assert!(path.ends_with("/status"), "only a status is written");
        if stored.is_dead {
            return (0, Value::Null);
        }
        if let Some(code) = stored.refusals.pop() {
            return failure(code);
        }
        let patch: Value = serde_json::from_slice(body).expect("JSON");
        stored.revision += 1;
        let revision = stored.revision;
        let Some(found) = stored.objects.get_mut(object) else {
            return failure(404);
        };
        if patch["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"] {
            return failure(409);
        }
        found["metadata"]["resourceVersion"] = json!(revision.to_string());
        merge_patch(&mut found["status"], &patch["status"]);
        let answer = found.clone();
        stored.writes.push((Instant::now(), object.to_owned()));
        (200, answer)
    }

    fn put(&self, name: &str, generation: i64) {
        let mut stored = self.0.lock().expect("no test panics with it held");
        stored.revision += 1;
        let revision = stored.revision.to_string();
        let object = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "a", "generation": generation, "resourceVersion": revision},
            "spec": {},
        });
        stored.objects.insert(path(name), object);
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.0.lock().expect("no test panics with it held"))
    }

    fn n_writes(&self) -> usize {
        self.with(|stored| stored.writes.len())
    }

    fn message(&self, name: &str) -> Option<String> {
        self.with(|stored| {
            let status = &stored.objects.get(&path(name))?["status"];
            Some(status["conditions"][0]["message"].as_str()?.to_owned())
        })
    }

    /// Waits until an object's status says something.
    async fn says(&self, name: &str, message: &str) {
        while self.message(name).as_deref() != Some(message) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn merge_patch(old: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *old = patch.clone();
        return;
    };
    if !old.is_object() {
        *old = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            old.as_object_mut().expect("made one").remove(field);
        } else {
            merge_patch(&mut old[field.as_str()], value);
        }
    }
}

fn wanted(generation: i64, message: &str) -> WantedStatus {
    let condition = json!({"type": "Reconciled", "status": "True", "message": message});
    WantedStatus {
        generation,
        status: json!({"conditions": [condition]}),
    }
}

fn start(server: &Server, leads: bool) -> (StatusWriter, watch::Sender<bool>) {
    let (leading_tx, leading) = watch::channel(leads);
    let pace = StatusPace::default();
    (
        StatusWriter::start(&server.client(), &leading, pace),
        leading_tx,
    )
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(300)).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_difference_is_written() {
    let server = Server::default();
    server.put("one", 1);
    let (writer, _leading) = start(&server, true);
    settle().await;
    writer.set(OWNER, target("one"), wanted(1, "1 of 1"));
    server.says("one", "1 of 1").await;
    settle().await;
    writer.set(OWNER, target("one"), wanted(1, "1 of 1"));
    settle().await;
    assert_eq!(server.n_writes(), 1);
    assert_eq!(server.with(|s| s.n_reads), 1, "not even looked at again");
    // A writer that knows nothing of the first one finds it right.
    let (other, _leading) = start(&server, true);
    settle().await;
    other.set(OWNER, target("one"), wanted(1, "1 of 1"));
    settle().await;
    assert_eq!(server.n_writes(), 1);
    assert!(
        other
            .counters()
            .render()
            .contains("{result=\"unchanged\"} 1\n")
    );
}

#[tokio::test(start_paused = true)]
async fn the_newest_counts_and_one_object_is_not_written_all_the_time() {
    let server = Server::default();
    server.put("one", 1);
    let (writer, _leading) = start(&server, true);
    let began = Instant::now();
    for n in 0..1000 {
        writer.set(OWNER, target("one"), wanted(1, &n.to_string()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.says("one", "999").await;
    let most = began.elapsed().as_millis() / StatusPace::default().per_object.as_millis() + 2;
    let n_writes = server.n_writes();
    assert!(
        (2..=most).contains(&(n_writes as u128)),
        "{n_writes} {most}"
    );
}

#[tokio::test(start_paused = true)]
async fn writes_keep_to_the_pace() {
    let server = Server::default();
    let names: Vec<_> = (0..300).map(|n| format!("n{n:03}")).collect();
    let (writer, _leading) = start(&server, true);
    let began = Instant::now();
    for name in &names {
        server.put(name, 1);
        writer.set(OWNER, target(name), wanted(1, "said"));
    }
    while server.n_writes() < names.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What is beyond the burst has its time each, less for the rounding of timers.
    let expect = StatusPace::default().each * 200;
    assert!(began.elapsed() >= expect - Duration::from_millis(10));
    assert!(began.elapsed() <= expect * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again() {
    let server = Server::default();
    server.put("one", 1);
    server.with(|stored| stored.refusals = vec![500, 409, 403, 500]);
    let (writer, _leading) = start(&server, true);
    writer.set(OWNER, target("one"), wanted(1, "said"));
    server.says("one", "said").await;
    assert!(
        writer
            .counters()
            .render()
            .contains("{result=\"failed\"} 4\n")
    );
}

#[tokio::test(start_paused = true)]
async fn a_later_generation_and_an_object_that_is_gone_are_left_alone() {
    let server = Server::default();
    server.put("one", 2);
    let (writer, _leading) = start(&server, true);
    writer.set(OWNER, target("one"), wanted(1, "old"));
    writer.set(OWNER, target("gone"), wanted(1, "old"));
    settle().await;
    assert_eq!(server.n_writes(), 0);
    let counters = writer.counters().render();
    assert!(counters.contains("{result=\"outdated\"} 1\n"), "{counters}");
    assert!(counters.contains("{result=\"gone\"} 1\n"), "{counters}");
    writer.set(OWNER, target("one"), wanted(2, "new"));
    server.says("one", "new").await;
    let observed = server.with(|s| s.objects[&path("one")]["status"]["conditions"][0].clone());
    assert_eq!(observed["observedGeneration"], 2);
}

#[tokio::test(start_paused = true)]
async fn two_owners_share_a_status() {
    let server = Server::default();
    server.put("one", 1);
    let (writer, _leading) = start(&server, true);
    let other = StatusOwner {
        name: "other",
        conditions: &["Other"],
        controller: "",
    };
    let said =
        json!({"conditions": [{"type": "Other", "status": "True"}], "addresses": ["240.0.0.1"]});
    let of_other = WantedStatus {
        generation: 1,
        status: said,
    };
    writer.set(OWNER, target("one"), wanted(1, "said"));
    writer.set(other, target("one"), of_other);
    settle().await;
    let status = server.with(|s| s.objects[&path("one")]["status"].clone());
    assert_eq!(
        status["conditions"].as_array().map(Vec::len),
        Some(2),
        "{status}"
    );
    assert_eq!(status["addresses"], json!(["240.0.0.1"]));
}

#[tokio::test(start_paused = true)]
async fn only_a_leader_writes() {
    let server = Server::default();
    server.put("one", 1);
    let (writer, leading) = start(&server, false);
    writer.set(OWNER, target("one"), wanted(1, "said"));
    settle().await;
    assert_eq!(server.with(|s| s.n_reads), 0);
    leading.send_replace(true);
    server.says("one", "said").await;
    // A write that is on its way ends with the leadership.
    server.with(|stored| stored.is_dead = true);
    writer.set(OWNER, target("one"), wanted(1, "more"));
    settle().await;
    leading.send_replace(false);
    settle().await;
    server.with(|stored| stored.is_dead = false);
    settle().await;
    assert_eq!(server.message("one").as_deref(), Some("said"));
    // Another leader has said something else meanwhile.
    server.put("one", 1);
    leading.send_replace(true);
    server.says("one", "more").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_not_written_again() {
    let server = Server::default();
    server.put("one", 1);
    let (writer, leading) = start(&server, true);
    writer.set(OWNER, target("one"), wanted(1, "said"));
    server.says("one", "said").await;
    writer.forget(OWNER, &target("one"));
    server.put("one", 1);
    leading.send_replace(false);
    settle().await;
    leading.send_replace(true);
    settle().await;
    assert_eq!(server.message("one"), None);
    // An object that was made anew is written to, though what is said is the same.
    writer.set(OWNER, target("one"), wanted(1, "said"));
    server.says("one", "said").await;
}
