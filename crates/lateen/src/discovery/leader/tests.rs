use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt;
use hyper::{Method, Request, Response, body::Bytes};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::*;
use crate::discovery::revisions::Name;

/// An API server with one Lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    revision: u64,
    /// Whose requests are not answered.
    cut_off: Vec<String>,
    /// How often yet somebody else writes to the Lease right after it was read.
    n_disputes: u32,
}

impl Server {
    fn client(&self, of: &str) -> Client {
        let (server, of) = (self.clone(), of.to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, of) = (server.clone(), of.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                if server.with(|stored| stored.cut_off.contains(&of)) {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.with(|stored| stored.answer(&head.method, &body));
                let body = Body::from(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(body).expect("one"))
            }
        });
        Client::new(service, "istio-system")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.0.lock().expect("no test panics with it held"))
    }

    fn candidate(&self, name: &str) -> Election {
        self.candidate_of(name, None)
    }

    fn candidate_of(&self, name: &str, revisions: Option<Known>) -> Election {
        Election::start(Candidate {
            leases: Api::namespaced(self.client(name), "istio-system"),
            name: "istio-status-leader".to_owned(),
            identity: name.to_owned(),
            revisions,
        })
    }

    fn note(&self, name: &str) -> Value {
        self.with(|stored| {
            let lease = stored.lease.as_ref().expect("a Lease");
            lease["metadata"]["annotations"][name].clone()
        })
    }

    fn spec(&self, field: &str) -> Value {
        self.with(|stored| stored.lease.as_ref().expect("a Lease")["spec"][field].clone())
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": reason});
    (code, body)
}

impl Stored {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        if *method == Method::GET {
            return match &mut self.lease {
                Some(lease) => {
                    let read = lease.clone();
                    if self.n_disputes > 0 {
                        self.n_disputes -= 1;
                        self.revision += 1;
                        lease["metadata"]["resourceVersion"] = json!(self.revision.to_string());
                    }
                    (200, read)
                }
                None => failure(404, "NotFound"),
            };
        }
        let mut new: Value = serde_json::from_slice(body).expect("JSON");
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match &self.lease {
            Some(_) if *method == Method::POST => return failure(409, "AlreadyExists"),
            Some(held) if version(held) != version(&new) => return failure(409, "Conflict"),
            _ => {}
        }
        self.revision += 1;
        new["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.lease = Some(new.clone());
        (200, new)
    }
}

fn leads(election: &Election) -> bool {
    *election.leading().borrow()
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_to_be_done_keeps_the_lease_from_nobody() {
    let server = Server::default();
    let candidate = |name: &str| Candidate {
        leases: Api::namespaced(server.client(name), "istio-system"),
        name: "istio-leader".to_owned(),
        identity: name.to_owned(),
        revisions: None,
    };
    let (wanted_tx, wanted) = watch::channel(false);
    let election = conditional::Conditional::start(candidate("a"), wanted);
    let mut leading = election.leading();
    seconds(60).await;
    assert!(!*leading.borrow());
    assert!(server.with(|stored| stored.lease.is_none()));
    wanted_tx.send_replace(true);
    leading.wait_for(|leads| *leads).await.expect("it stands");
    assert_eq!(server.spec("holderIdentity"), "a");
    wanted_tx.send_replace(false);
    leading.wait_for(|leads| !*leads).await.expect("it stands");
    seconds(1).await;
    assert_eq!(
        server.spec("holderIdentity"),
        "",
        "another one need not wait"
    );
    wanted_tx.send_replace(true);
    leading.wait_for(|leads| *leads).await.expect("it stands");
    election.resign().await;
    assert!(!*leading.borrow());
    assert_eq!(server.spec("holderIdentity"), "");
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_follows_when_it_dies() {
    let server = Server::default();
    let first = server.candidate("first");
    seconds(1).await;
    let second = server.candidate("second");
    for _ in 0..100 {
        seconds(1).await;
        assert!(leads(&first) && !leads(&second));
    }
    assert_eq!(server.spec("holderIdentity"), "first");
    first.task.abort();
    // It has renewed at most a period ago.
    for _ in 0..(HOLDS - EVERY).as_secs() {
        assert!(!leads(&second), "the Lease still holds");
        seconds(1).await;
    }
    seconds(2 * EVERY.as_secs() + 2).await;
    assert!(leads(&second));
    assert_eq!(server.spec("leaseTransitions"), 2);
    let back = server.candidate("first");
    seconds(100).await;
    assert!(!leads(&back) && leads(&second));
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_ends_before_another_begins() {
    let server = Server::default();
    let first = server.candidate("first");
    seconds(20).await;
    let second = server.candidate("second");
    seconds(20).await;
    server.with(|stored| stored.cut_off.push("first".to_owned()));
    let mut nobody = 0;
    while !leads(&second) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!(leads(&first) && leads(&second)));
        nobody += u32::from(!leads(&first));
    }
    assert!(nobody > 50, "there is time between the two: {nobody}");
    server.with(|stored| stored.cut_off.clear());
    seconds(60).await;
    assert!(!leads(&first) && leads(&second));
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_short_changes_nothing() {
    let server = Server::default();
    let first = server.candidate("first");
    seconds(1).await;
    for _ in 0..20 {
        server.with(|stored| stored.cut_off.push("first".to_owned()));
        for _ in 0..5 {
            seconds(1).await;
            assert!(leads(&first));
        }
        server.with(|stored| stored.cut_off.clear());
        seconds(10).await;
        assert!(leads(&first));
    }
}

#[tokio::test(start_paused = true)]
async fn who_resigns_is_followed_at_once() {
    let server = Server::default();
    let first = server.candidate("first");
    seconds(1).await;
    let second = server.candidate("second");
    seconds(1).await;
    let leading = first.leading();
    assert!(*leading.borrow());
    first.resign().await;
    assert!(!*leading.borrow());
    assert_eq!(server.spec("holderIdentity"), "");
    seconds(EVERY.as_secs() + 1).await;
    assert!(leads(&second));
}

/// Who asks for a Lease writes to it, as do tools that note something.
#[tokio::test(start_paused = true)]
async fn a_write_in_between_loses_nothing() {
    let server = Server::default();
    let first = server.candidate("first");
    seconds(1).await;
    let renewed = server.spec("renewTime");
    server.with(|stored| stored.n_disputes = 1);
    seconds(EVERY.as_secs()).await;
    assert!(leads(&first));
    assert_ne!(
        server.spec("renewTime"),
        renewed,
        "at the first look, not after a pause"
    );
    server.with(|stored| stored.n_disputes = LOOKS - 1);
    first.resign().await;
    assert_eq!(server.spec("holderIdentity"), "");
}

/// What control planes of revisions `default` and `canary` know, and who changes it: to which of them
/// the default tag leads.
fn two_revisions() -> [(watch::Sender<Option<Revisions>>, Known); 2] {
    ["default", "canary"].map(|own| watch::channel(Some(beside_each_other(own, None))))
}

fn beside_each_other(own: &str, default: Option<&str>) -> Revisions {
    let both = ["default", "canary"].map(|name| Name::Revision(name.to_owned()));
    let tag = default.map(|of| Name::Tag("default".to_owned(), of.to_owned()));
    Revisions::new(own, both.into_iter().chain(tag))
}

fn lead_to(tx: &watch::Sender<Option<Revisions>>, own: &str, default: Option<&str>) {
    tx.send_replace(Some(beside_each_other(own, default)));
}

/// Waits until somebody leads who does not yet, and holds that never two lead.
async fn until_leads(who: &Election, other: &Election) {
    let mut waited = 0;
    while !leads(who) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!(leads(who) && leads(other)), "both lead");
        waited += 1;
        assert!(waited < 20 * 12, "the Lease is not handed over");
    }
    assert!(!leads(other));
}

#[tokio::test(start_paused = true)]
async fn the_default_revision_is_handed_the_lease() {
    let server = Server::default();
    let [(stable_tx, stable), (canary_tx, canary)] = two_revisions();
    let canary = server.candidate_of("canary-1", Some(canary));
    seconds(1).await;
    assert!(leads(&canary), "the only one leads, whatever its revision");
    assert_eq!(server.note(HOLDER_KEY), "canary");
    let stable = server.candidate_of("stable-1", Some(stable));
    until_leads(&stable, &canary).await;
    assert_eq!(server.note(HOLDER_KEY), "default");
    assert_eq!(server.note(ASKED_BY), Value::Null);
    seconds(120).await;
    assert!(leads(&stable) && !leads(&canary));

    // The tag moves on.
    for (tx, own) in [(&stable_tx, "default"), (&canary_tx, "canary")] {
        lead_to(tx, own, Some("canary"));
    }
    until_leads(&canary, &stable).await;
    // Without anybody of the default revision, the other one does the work.
    canary.resign().await;
    seconds(EVERY.as_secs() + 1).await;
    assert!(leads(&stable));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_gone_is_not_asked_for_ever() {
    let server = Server::default();
    let [(_, stable), (_, canary)] = two_revisions();
    let canary = server.candidate_of("canary-1", Some(canary));
    seconds(1).await;
    canary.task.abort();
    let stable = server.candidate_of("stable-1", Some(stable));
    for _ in 0..(HOLDS - EVERY).as_secs() {
        assert!(!leads(&stable), "the Lease still holds");
        seconds(1).await;
    }
    seconds(2 * EVERY.as_secs() + 2).await;
    assert!(leads(&stable));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_the_default_revision_asks_nobody() {
    let server = Server::default();
    let [(stable_tx, stable), (_, canary)] = two_revisions();
    stable_tx.send_replace(None);
    let canary = server.candidate_of("canary-1", Some(canary));
    seconds(1).await;
    let stable = server.candidate_of("stable-1", Some(stable));
    seconds(60).await;
    assert!(leads(&canary) && !leads(&stable));
    assert_eq!(server.note(ASKED_BY), Value::Null);
    lead_to(&stable_tx, "default", None);
    until_leads(&stable, &canary).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_of_the_default_revision_keeps_the_lease() {
    let server = Server::default();
    let [(_, stable), (canary_tx, canary)] = two_revisions();
    let stable = server.candidate_of("stable-1", Some(stable));
    seconds(1).await;
    // This one believes that the tag leads to it, when it does not any more.
    lead_to(&canary_tx, "canary", Some("canary"));
    let canary = server.candidate_of("canary-1", Some(canary));
    for _ in 0..100 {
        seconds(1).await;
        assert!(leads(&stable) && !leads(&canary));
    }
}
