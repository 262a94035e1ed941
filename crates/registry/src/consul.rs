//! Services of a Consul catalogue, followed by blocking queries.
//!
//! One query waits for services to come and go, and one for each service waits for its instances and
//! their checks. Nothing is asked twice while nothing changes. A catalogue that is not heard keeps what
//! it said last.

mod convert;
mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arcstr::ArcStr;
use lateen_core::Backoff;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    source::Source,
    state::{self, Update},
    store::{Event, Key},
};

use convert::Instance;
use http::{Answer, Client};

/// First and longest wait after a query that failed.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);
/// Least time from one question to the next one of the same kind: a catalogue whose index changes all
/// the time is not asked all the time.
const PACE: Duration = Duration::from_millis(100);

/// The service that every agent of Consul is an instance of.
const AGENTS: &str = "consul";

/// A Consul agent or server.
#[derive(Clone, Debug)]
pub struct Consul {
    /// Its address: `http://host:port`.
    pub address: String,
    /// What it is asked with; `None` for an open one.
    pub token: Option<String>,
    /// The mesh's namespace that its services are in.
    pub namespace: ArcStr,
}

impl Consul {
    /// Whether the address can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        Client::new(self).map(|_| ())
    }
}

impl Source for Consul {
    fn start(self, tasks: &mut JoinSet<()>, updates_tx: mpsc::Sender<Update>) {
        match Client::new(&self) {
            Ok(client) => {
                tasks.spawn(Follower::new(self, client, updates_tx).run());
            }
            Err(error) => tracing::error!(error, "the Consul catalogue is not followed"),
        }
    }
}

struct Follower {
    consul: Consul,
    client: Client,
    updates_tx: mpsc::Sender<Update>,
    /// Who follows each service. Ends with this, or when the service goes.
    services: BTreeMap<String, JoinSet<()>>,
}

impl Follower {
    fn new(consul: Consul, client: Client, updates_tx: mpsc::Sender<Update>) -> Self {
        Self {
            consul,
            client,
            updates_tx,
            services: BTreeMap::new(),
        }
    }

    /// Follows the list of services until nobody listens.
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        let mut index = 0;
        let mut listed = false;
        loop {
            let asked = Instant::now();
            let update = match self.look(index, listed).await {
                Ok((next, update)) => {
                    backoff.reset();
                    index = next;
                    listed = true;
                    update
                }
                Err(error) => {
                    tracing::warn!(error, "the Consul catalogue is not heard, trying again");
                    let failed = Update::Failed(state::CATALOG, error);
                    if self.updates_tx.send(failed).await.is_err() {
                        return;
                    }
                    // What was missed meanwhile must not be waited for.
                    index = 0;
                    tokio::time::sleep(backoff.next_delay()).await;
                    continue;
                }
            };
            if self.updates_tx.send(update).await.is_err() {
                return;
            }
            tokio::time::sleep_until(asked + PACE).await;
        }
    }

    /// Waits for the list to be another than at `index`, and takes it in.
    async fn look(&mut self, index: u64, listed: bool) -> Result<(u64, Update), String> {
        let answer: Answer<BTreeMap<String, Vec<String>>> =
            self.client.get("/v1/catalog/services", index).await?;
        let names: BTreeSet<String> = answer
            .value
            .into_keys()
            .filter(|name| name != AGENTS)
            .collect();
        let update = if listed {
            self.compare(&names)
        } else {
            self.first(&names).await?
        };
        Ok((answer.index, update))
    }

    /// The whole first list, so that the world does not begin with a part of it.
    async fn first(&mut self, names: &BTreeSet<String>) -> Result<Update, String> {
        let mut list = vec![Update::Catalog(Event::Init)];
        let mut followed = Vec::new();
        for name in names {
            let answer = instances(&self.client, name, 0).await?;
            if let Some(item) = convert::external(name, &answer.value, &self.consul.namespace) {
                let item = Event::InitApply(self.key(name), item.into());
                list.push(Update::Catalog(item));
            }
            followed.push((name, answer.index));
        }
        list.push(Update::Catalog(Event::InitDone));
        list.push(Update::Heard(state::CATALOG));
        for (name, index) in followed {
            self.follow(name, index);
        }
        Ok(Update::Together(list))
    }

    /// Takes the services in that came, and lets those go that are gone.
    fn compare(&mut self, names: &BTreeSet<String>) -> Update {
        let gone: Vec<String> = self
            .services
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        let deletions = gone.iter().map(|name| {
            self.services.remove(name);
            Update::Catalog(Event::Delete((
                self.consul.namespace.to_string(),
                name.clone(),
            )))
        });
        let changes = deletions.chain([Update::Heard(state::CATALOG)]).collect();
        for name in names {
            if !self.services.contains_key(name) {
                self.follow(name, 0);
            }
        }
        Update::Together(changes)
    }

    fn follow(&mut self, name: &str, index: u64) {
        let (client, updates_tx) = (self.client.clone(), self.updates_tx.clone());
        let (key, namespace) = (self.key(name), self.consul.namespace.clone());
        let mut task = JoinSet::new();
        task.spawn(follow_service(client, key, namespace, index, updates_tx));
        self.services.insert(name.to_owned(), task);
    }

    fn key(&self, name: &str) -> Key {
        (self.consul.namespace.to_string(), name.to_owned())
    }
}

async fn instances(
    client: &Client,
    name: &str,
    index: u64,
) -> Result<Answer<Vec<Instance>>, String> {
    let path = format!("/v1/health/service/{}", http::escaped(name));
    client.get(&path, index).await
}

/// Follows the instances of one service. That the catalogue is not heard is told by who follows the
/// list.
async fn follow_service(
    client: Client,
    key: Key,
    namespace: ArcStr,
    mut index: u64,
    updates_tx: mpsc::Sender<Update>,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
    loop {
        let asked = Instant::now();
        let answer = match instances(&client, &key.1, index).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(service = key.1, error, "not heard, trying again");
                index = 0;
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        backoff.reset();
        index = answer.index;
        let event = match convert::external(&key.1, &answer.value, &namespace) {
            Some(item) => Event::Apply(key.clone(), item.into()),
            None => Event::Delete(key.clone()),
        };
        if updates_tx.send(Update::Catalog(event)).await.is_err() {
            return;
        }
        tokio::time::sleep_until(asked + PACE).await;
    }
}

#[cfg(test)]
mod tests;
