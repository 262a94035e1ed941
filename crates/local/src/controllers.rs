//! The controllers: each watches some kinds and brings the cluster to where they say it should be.

mod account_tokens;
mod accounts;
mod aggregation;
mod autoscaler;
mod cache;
mod deployment;
mod endpoints;
mod garbage;
mod job;
mod load_balancer;
mod namespaces;
mod owned;
mod pods;
mod replica_set;
mod rolling;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Error;
use crate::events::Recorder;
use crate::net::Pool;

/// What the controllers share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: kube::Client,
    pub(crate) events: Recorder,
    /// Certificate authority of the API server, PEM; given to every namespace.
    pub(crate) api_ca: String,
}

/// Starts all controllers; they end with `shutdown`.
pub(crate) fn start(context: &Context, virtual_addresses: Pool, shutdown: &CancellationToken) {
    let spawn = |future: futures::future::BoxFuture<'static, ()>| {
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(future));
    };
    let shared = Arc::new(context.clone());
    spawn(Box::pin(replica_set::run(Arc::clone(&shared))));
    spawn(Box::pin(deployment::run(Arc::clone(&shared))));
    spawn(Box::pin(job::run(Arc::clone(&shared))));
    spawn(Box::pin(autoscaler::run(shared)));
    spawn(Box::pin(endpoints::run(context.client.clone())));
    spawn(Box::pin(accounts::run(context.clone())));
    spawn(Box::pin(aggregation::run(context.client.clone())));
    spawn(Box::pin(account_tokens::run(context.clone())));
    spawn(Box::pin(namespaces::run(context.client.clone())));
    spawn(Box::pin(garbage::run(context.client.clone())));
    spawn(Box::pin(load_balancer::run(
        context.clone(),
        virtual_addresses,
    )));
}

/// What becomes of a reconciliation that failed: a conflict is only news that has not arrived yet.
fn retry<K>(_object: Arc<K>, error: &Error, _context: Arc<Context>) -> Action {
    debug!(%error, "a reconciliation failed");
    Action::requeue(Duration::from_millis(match error {
        Error::Api(error) if is_conflict(error) => 20,
        _ => 500,
    }))
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Takes "it is not there" for a success.
fn ignore_missing<T>(result: Result<T, kube::Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}
