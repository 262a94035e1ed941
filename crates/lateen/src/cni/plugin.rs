//! `istio-cni`: what a container runtime runs for a pod that comes or goes.

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use super::{
    network, pod,
    protocol::{self, Command, Failure, PodName, Question},
};

/// How long the API server is asked for a pod before the runtime is told to try again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one question to it may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers one question: of the environment and standard input, to standard output.
pub(crate) fn main() -> ExitCode {
    let mut input = String::new();
    let question = match std::io::stdin().lock().read_to_string(&mut input) {
        Ok(_) => Question::read(|name| std::env::var_os(name), &input),
        Err(error) => Err(Failure::Config(error.to_string())),
    };
    let (told, code) = match question.and_then(|question| answer(&question)) {
        Ok(told) => (told, ExitCode::SUCCESS),
        Err(failure) => (Some(protocol::error(&failure, &input)), ExitCode::FAILURE),
    };
    match told.map(|told| writeln!(std::io::stdout(), "{told}")) {
        Some(Err(_)) => ExitCode::FAILURE,
        _ => code,
    }
}

fn answer(question: &Question) -> Result<Option<Value>, Failure> {
    match question.command {
        Command::Version => Ok(Some(question.versions())),
        // The rules go with the pod's network, which may be gone already.
        Command::Del => Ok(None),
        Command::Add => {
            in_captured(question, |config| {
                lateen_capture::apply(config).context("cannot write the rules")
            })?;
            Ok(Some(question.result()))
        }
        Command::Check => {
            in_captured(question, |_| match lateen_capture::is_applied() {
                Ok(true) => Ok(()),
                Ok(false) => bail!("the rules are gone"),
                Err(error) => Err(error).context("cannot look at the rules"),
            })?;
            Ok(None)
        }
    }
}

/// Does something in the network of the pod, if its traffic is to be captured.
fn in_captured(
    question: &Question,
    work: impl FnOnce(&lateen_capture::Config) -> anyhow::Result<()> + Send,
) -> Result<(), Failure> {
    let kubernetes = &question.config.kubernetes;
    let Some(name) = &question.pod else {
        return Ok(());
    };
    // Not even asked for: these are the namespaces of what the API server and this plugin need.
    if kubernetes.exclude_namespaces.contains(&name.namespace) {
        return Ok(());
    }
    let network = question.network.as_deref().ok_or(Failure::Environment {
        name: "CNI_NETNS",
        why: "is not there; a container runtime sets it to the pod's network".to_owned(),
    })?;
    let pod = ask(&kubernetes.kubeconfig, name).map_err(|error| Failure::Pod {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        why: format!("{error:#}"),
    })?;
    let capture = || -> anyhow::Result<()> {
        let Some(config) = pod::capture(&pod)? else {
            return Ok(());
        };
        network::within(network, || work(&config))?
    };
    capture().map_err(|error| Failure::Capture {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        why: format!("{error:#}"),
    })
}

/// The pod, as the API server has it. It must be the one that the runtime means, and not a later one of
/// the name.
fn ask(kubeconfig: &Path, name: &PodName) -> anyhow::Result<Pod> {
    lateen_tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pod = runtime.block_on(async {
        let pods = Api::namespaced(client(kubeconfig).await?, &name.namespace);
        patiently(&pods, &name.name).await
    })?;
    let (wanted, found) = (name.uid.as_deref(), pod.metadata.uid.as_deref());
    if wanted.is_some_and(|wanted| found != Some(wanted)) {
        bail!(
            "the API server has another one of the name, of UID {}",
            found.unwrap_or_default()
        );
    }
    Ok(pod)
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let unreadable = || {
        format!(
            "cannot read {}, which istio-cni-node writes; is it ready on this node?",
            kubeconfig.display()
        )
    };
    let file = Kubeconfig::read_from(kubeconfig).with_context(unreadable)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
    config.connect_timeout = Some(ANSWER);
    config.read_timeout = Some(ANSWER);
    Ok(Client::try_from(config)?)
}

/// Asks again what may be otherwise a moment later: there is no answer, or the token has just been renewed.
async fn patiently(pods: &Api<Pod>, name: &str) -> anyhow::Result<Pod> {
    let start = Instant::now();
    loop {
        let error = match pods.get(name).await {
            Ok(pod) => return Ok(pod),
            Err(error) => error,
        };
        let is_final =
            matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404));
        if is_final || start.elapsed() > PATIENCE {
            return Err(error.into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
