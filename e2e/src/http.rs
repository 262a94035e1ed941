//! A small HTTP client for tests, and a load that counts every failure.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Sends requests to one address over kept connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Http {
    /// Requests go to `http://address`.
    pub fn new(address: SocketAddr) -> Self {
        Http {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: format!("http://{address}"),
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[], "").await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned()))?;
        let response =
            tokio::time::timeout(Duration::from_secs(60), self.client.request(request)).await??;
        let (head, body) = response.into_parts();
        let text = |value: &hyper::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head
                .headers
                .iter()
                .map(|(n, v)| (n.to_string(), text(v)))
                .collect(),
            body: String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned(),
        })
    }
}

/// A steady load on one path, which remembers every answer that was not 200.
#[derive(Debug)]
pub struct Load {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<u64>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// Requests of a load that are out at once, at most. Without a limit, a machine that is too slow for
/// the rate lets them pile up until the sample's own deadlines pass, and that is no fault of a proxy.
const N_UNANSWERED: usize = 32;

/// What a load saw.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were sent.
    pub n_requests: u64,
    /// What was wrong with each that failed.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `per_second` requests a second, but no more while many are unanswered.
    pub fn start(http: Http, path: &'static str, per_second: u32) -> Load {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let failures = Arc::new(Mutex::new(Vec::new()));
        let seen = failures.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut running = JoinSet::new();
            let mut n_requests = 0;
            loop {
                tokio::select! {
                    _ = ticks.tick(), if running.len() < N_UNANSWERED => {
                        n_requests += 1;
                        running.spawn(one(http.clone(), path, seen.clone()));
                    }
                    Some(_) = running.join_next() => {}
                    _ = stopped.changed() => break,
                }
            }
            running.join_all().await;
            n_requests
        });
        Load {
            stop,
            task,
            failures,
        }
    }

    /// How many requests failed so far.
    pub fn n_failures(&self) -> usize {
        self.failures.lock().expect("no holder panics").len()
    }

    /// Stops, and waits for the answers that are still out.
    pub async fn finish(self) -> anyhow::Result<Outcome> {
        self.stop.send(true)?;
        let n_requests = self.task.await?;
        let failures = std::mem::take(&mut *self.failures.lock().expect("no holder panics"));
        Ok(Outcome {
            n_requests,
            failures,
        })
    }
}

async fn one(http: Http, path: &str, failures: Arc<Mutex<Vec<String>>>) {
    let wrong = match http.get(path).await {
        Ok(answer) if answer.status == 200 => return,
        Ok(answer) => format!(
            "{} {}",
            answer.status,
            answer.body.chars().take(200).collect::<String>()
        ),
        Err(error) => format!("{error:#}"),
    };
    failures.lock().expect("no holder panics").push(wrong);
}
