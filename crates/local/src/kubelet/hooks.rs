//! Actions on a container, used by lifecycle hooks and probes alike.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::pod::PodContext;
use super::probe::{Verdict, http_get};
use crate::container::{ContainerSpec, exec};

/// A running container as the object of an action. An error is what the user reads.
#[derive(Clone)]
pub(super) struct Target {
    context: Arc<PodContext>,
    container: Arc<Container>,
    spec: Arc<ContainerSpec>,
    init: i32,
}

impl Target {
    pub(super) fn new(
        context: &Arc<PodContext>,
        container: &Container,
        spec: &ContainerSpec,
        init: i32,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            container: Arc::new(container.clone()),
            spec: Arc::new(spec.clone()),
            init,
        }
    }

    /// What the container was started with; gone when it has ended.
    pub(super) fn spec(&self) -> &Arc<ContainerSpec> {
        &self.spec
    }

    pub(super) fn pod_ip(&self) -> IpAddr {
        self.context.net.ip.into()
    }

    pub(super) fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named = ports
                    .clone()
                    .find(|port| port.name.as_deref() == Some(name))
                    .map(|port| port.container_port);
                named.or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("no container port {port:?}"))
    }

    pub(super) async fn exec(&self, action: &ExecAction, timeout: Duration) -> Result<(), String> {
        let argv = action.command.clone().unwrap_or_default();
        let outcome = exec::run(self.init, &self.spec, argv, timeout)
            .await
            .map_err(|error| error.to_string())?;
        if outcome.success {
            Ok(())
        } else {
            Err(outcome.output.trim().to_owned())
        }
    }

    pub(super) async fn tcp(
        &self,
        action: &TCPSocketAction,
        timeout: Duration,
    ) -> Result<(), String> {
        let address = self.address(action.host.as_deref(), &action.port)?;
        match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("dial tcp {address}: {error}")),
            Err(_) => Err(format!("dial tcp {address}: timed out after {timeout:?}")),
        }
    }

    pub(super) async fn http(
        &self,
        action: &HTTPGetAction,
        timeout: Duration,
    ) -> Result<(), String> {
        let address = self.address(action.host.as_deref(), &action.port)?;
        match tokio::time::timeout(timeout, http_get(address, action)).await {
            Ok(result) => result,
            Err(_) => Err(format!("Get {address}: timed out after {timeout:?}")),
        }
    }

    fn address(&self, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
        let ip = match host {
            None | Some("") => self.pod_ip(),
            Some(host) => host
                .parse()
                .map_err(|_| format!("host {host:?}: only addresses are supported"))?,
        };
        Ok(SocketAddr::new(ip, self.port(port)?))
    }

    async fn handle(&self, hook: &LifecycleHandler, timeout: Duration) -> Result<(), String> {
        if let Some(action) = &hook.exec {
            return self.exec(action, timeout).await;
        }
        if let Some(action) = &hook.http_get {
            return self.http(action, timeout).await;
        }
        if let Some(action) = &hook.tcp_socket {
            return self.tcp(action, timeout).await;
        }
        if let Some(action) = &hook.sleep {
            let wanted = Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0));
            tokio::time::sleep(wanted.min(timeout)).await;
        }
        Ok(())
    }
}

/// Runs the hook after a start; a failure kills the container. Whether it succeeded.
pub(super) async fn post_start(
    hook: &LifecycleHandler,
    target: &Target,
    verdict_tx: &mpsc::Sender<Verdict>,
) -> bool {
    let outcome = target.handle(hook, Duration::from_secs(300)).await;
    if let Err(message) = &outcome {
        target.context.warning(
            "FailedPostStartHook",
            format!("PostStartHook failed: {message}"),
        );
        let _ = verdict_tx
            .send(Verdict::Kill("failed its PostStartHook".into()))
            .await;
    }
    outcome.is_ok()
}

/// Runs the hook before a stop, for the grace at most.
pub(super) async fn pre_stop(hook: LifecycleHandler, target: &Target, grace: Duration) {
    let outcome = tokio::time::timeout(grace, target.handle(&hook, grace)).await;
    if let Ok(Err(message)) = outcome {
        target.context.warning(
            "FailedPreStopHook",
            format!("PreStopHook failed: {message}"),
        );
    }
}
