//! `pilot-discovery`: the control plane in one process. It wires the crates
//! together and decides nothing itself.

use std::{ffi::OsString, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use kube::Client;
use lateen_citadel::{CaOptions, CertificateAuthority, RootPublisher, Trust};
use lateen_core::Backoff;
use lateen_registry::{Consul, FieldFault, Files, Registry};
use lateen_tls::IdentityStore;
use tracing::{info, warn};

mod access;
mod analysis;
mod control;
mod credentials;
mod entries;
mod environment;
mod gateways;
pub(crate) mod injection;
mod leader;
mod led;
mod options;
#[cfg(test)]
pub(crate) mod platform;
mod replicas;
mod revisions;
mod roots;
mod secrets;
mod servers;
mod sources;
mod statuses;
mod tokens;
mod trust;
mod webhooks;

use environment::Environment;
pub(crate) use gateways::FIELD_MANAGER as GATEWAY_CONTROLLER;
pub(crate) use leader::is_lease;
use leader::{Elections, Task};
use led::Led;
use options::{DEFAULT_REVISION, Options};
use revisions::Revisions;

/// The control plane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "pilot-discovery", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve configuration, certificates and webhooks
    Discovery(Options),
}

/// What is wrong with a document of a file, in the words of the webhook.
fn check(document: &serde_json::Value) -> Vec<FieldFault> {
    let faults = lateen_galley::validate(document).into_iter();
    let in_words = |fault: lateen_galley::Fault| match fault.help.as_str() {
        "" => FieldFault::new(fault.field, fault.reason),
        help => FieldFault::new(fault.field, format!("{}; {help}", fault.reason)),
    };
    faults.map(in_words).collect()
}

/// Whether the control plane can be started with these arguments. What the platform puts into them is not
/// known before.
///
/// # Errors
/// What is wrong with them, in words.
pub(crate) fn check_arguments(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|argument| argument.contains("$(")) {
        return Ok(());
    }
    let name = "pilot-discovery".to_owned();
    let parsed = Cli::try_parse_from(std::iter::once(&name).chain(arguments));
    parsed.map(drop).map_err(|error| {
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    })
}

/// Runs the control plane until it is told to stop.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let Command::Discovery(options) = Cli::parse_from(args).command;
    let levels = lateen_telemetry::directives(&options.log, control::SCOPES);
    let log = levels.and_then(|levels| lateen_telemetry::init(&levels, options.log_as_json));
    if let Err(error) = log {
        eprintln!("pilot-discovery: --log_output_level: {error}");
        return ExitCode::FAILURE;
    }
    lateen_tls::install_provider();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads");
    match runtime.and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The catalogue that the flags name. Its services are in the control plane's namespace, whose rules
/// hold for the whole mesh.
fn consul(options: &Options) -> anyhow::Result<Option<Consul>> {
    let Some(address) = options.consul.clone() else {
        return Ok(None);
    };
    let consul = Consul {
        address,
        token: std::env::var("CONSUL_HTTP_TOKEN").ok(),
        namespace: options.namespace.as_str().into(),
    };
    let usable = consul.check().map_err(anyhow::Error::msg);
    usable.context("--consulserverURL")?;
    Ok(Some(consul))
}

async fn run(mut options: Options) -> anyhow::Result<()> {
    options.environment = Environment::read()?;
    options.tell_unread();
    let client = Client::try_default()
        .await
        .context("cannot find the API server")?;
    let consul = consul(&options)?;
    let registry = Registry::kubernetes(
        client.clone(),
        lateen_registry::Options {
            domain: options.domain.clone(),
            namespace: options.namespace.clone(),
            mesh_config: options.revisioned(lateen_registry::MESH_CONFIG),
            revision: options.revision_name().to_owned(),
            files: options.config_dir.clone().map(|dir| Files { dir, check }),
            consul,
            gateway_api: options.environment.gateway_api,
            ..lateen_registry::Options::default()
        },
    );
    let credentials = Arc::new(credentials::Credentials::follow(client.clone()));
    credentials.ready().await;
    let around = lateen_galley::Surroundings {
        world: registry.world(),
        credentials: credentials.clone(),
        domain: options.domain.clone(),
        trust_domain: options.trust_domain(),
    };
    let galley = lateen_galley::Galley::start(registry.config(), around);
    credentials.grant(galley.gateways());
    galley.synced(&registry).await;
    info!("configuration is in sync");
    // Proxies expect their peers in the mesh's trust domain, so certificates must be for that.
    let trust = trust::follow(galley.config());
    let own = trust.borrow().own().to_owned();
    let authority = Arc::new(authority(&client, &options, &own).await);
    let serving = Arc::new(IdentityStore::empty());

    let replica = Arc::new(IdentityStore::empty());
    tokio::spawn(keep_replica(
        Arc::clone(&authority),
        Arc::clone(&replica),
        options.namespace.clone(),
        trust.clone(),
    ));

    let revisions = revisions::follow(&client, &options.revision);
    tokio::spawn(keep_serving(
        Arc::clone(&authority),
        Arc::clone(&serving),
        options.clone(),
        revisions.clone(),
    ));
    let mut elections = Elections::new(&client, &options, &revisions);
    tokio::spawn(secrets::keep_plugged(
        client.clone(),
        options.namespace.clone(),
        authority.clone(),
    ));
    let roots = authority.roots();
    let namespaces = roots::namespaces(registry.world());
    let leading = elections.stand(Task::Namespaces);
    let target = roots::ConfigMaps {
        client: client.clone(),
        leading: leading.clone(),
    };
    tokio::spawn(RootPublisher::new(roots.clone(), namespaces, leading, target).run());

    let mut led = Led {
        client: &client,
        options: &options,
        registry: &registry,
        galley: &galley,
        elections: &mut elections,
    };
    let (statuses, leading) = led.statuses();
    let params = injection::follow(&client, &galley, &options).await;
    led.gateways(&statuses, params.clone(), revisions);
    let parts = servers::Parts::new(
        &client,
        &registry,
        &galley,
        authority,
        serving,
        servers::Sinks {
            trust,
            params,
            credentials,
            statuses: statuses.clone(),
            registering: entries::registering(&client, &options, leading.clone()),
        },
        &options,
    );
    led.objects(parts.discovery(), statuses, leading, replica);
    let running = servers::Servers::bind(&options)?.serve(parts)?;
    // Only now is there something behind the webhooks to call.
    tokio::spawn(webhooks::keep_trusted(
        client,
        webhooks::Service {
            name: options.revisioned("istiod"),
            namespace: options.namespace.clone(),
        },
        roots,
    ));
    terminated().await;
    info!("stopping");
    elections.resign().await;
    running.stop(options.shutdown).await;
    Ok(())
}

/// Keeps the serving certificate fresh, with the names of the tags that lead here.
async fn keep_serving(
    authority: Arc<CertificateAuthority>,
    serving: Arc<IdentityStore>,
    options: Options,
    mut revisions: revisions::Known,
) {
    loop {
        let known = revisions.borrow_and_update().clone();
        let tags = known.iter().flat_map(Revisions::own_tags);
        let hosts = serving_hosts(&options, tags);
        let keeping = Arc::clone(&authority).keep_serving(Arc::clone(&serving), hosts);
        tokio::select! {
            () = keeping => return,
            Ok(()) = revisions.changed() => {}
        }
    }
}

/// Keeps the certificate fresh by which other replicas know this one, in the trust domain of the mesh.
async fn keep_replica(
    authority: Arc<CertificateAuthority>,
    store: Arc<IdentityStore>,
    namespace: String,
    mut trust: Trust,
) {
    loop {
        let id = trust.borrow_and_update().identity(&namespace, "istiod");
        let Some(id) = id else {
            tracing::error!(namespace, "no identity for this replica in this namespace");
            return;
        };
        let keeping = Arc::clone(&authority).keep_workload(Arc::clone(&store), id);
        tokio::select! {
            () = keeping => return,
            Ok(()) = trust.changed() => {}
        }
    }
}

/// Names by which the control plane is reached beside those that every one has: those of its revision,
/// and of the tags that lead to it.
fn serving_hosts<'a>(options: &Options, tags: impl Iterator<Item = &'a str>) -> Vec<String> {
    let namespace = &options.namespace;
    let names = [options.revisioned("istiod")].into_iter();
    let names = names.chain(tags.map(lateen_install::tag_service));
    let forms = names.flat_map(|name| {
        [
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.{}", options.domain),
            format!("{name}.{namespace}"),
        ]
    });
    let own = std::env::var("ISTIOD_CUSTOM_HOST").unwrap_or_default();
    let own = own
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    forms.chain(own.map(str::to_owned)).collect()
}

/// The certificate authority; waits for the API server, since without it nothing works.
async fn authority(client: &Client, options: &Options, trust_domain: &str) -> CertificateAuthority {
    let store = secrets::Secrets(client.clone());
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let ca = CaOptions {
            namespace: options.namespace.clone(),
            trust_domain: trust_domain.to_owned(),
            default_ttl: options.environment.default_ttl,
            max_ttl: options.environment.max_ttl,
        };
        match CertificateAuthority::load_or_create(&store, ca).await {
            Ok(authority) => return authority,
            Err(error) => {
                warn!(%error, "no certificate authority yet; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(error) => {
            warn!(%error, "cannot wait for SIGTERM");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_has_the_names_of_tags() {
        let arguments = ["pilot-discovery", "discovery", "--revision=canary"];
        let Command::Discovery(options) = Cli::parse_from(arguments).command;
        let hosts = serving_hosts(&options, ["prod"].into_iter());
        for host in [
            "istiod-canary.istio-system.svc",
            "istiod-revision-tag-prod.istio-system.svc",
        ] {
            assert!(hosts.iter().any(|held| held == host), "{hosts:?}");
        }
    }
}
