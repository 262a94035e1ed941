//! `lateen dashboard`: pages of the mesh's parts and addons in a browser on this machine, through a
//! port that is forwarded for as long as the command runs.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use lateen_core::ports;

use crate::{cli::Global, client, command::proxy_config::ADMIN, output};

mod forward;

use forward::Forward;

/// Open a page of the mesh in a browser, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen dashboard grafana\n  \
                  lateen dashboard prometheus -p 9091 --browser=false\n  \
                  lateen dashboard kiali\n  \
                  lateen dashboard jaeger\n  \
                  lateen dashboard zipkin\n  \
                  lateen dashboard skywalking\n  \
                  lateen dashboard proxy deploy/productpage-v1\n  \
                  lateen dashboard controlz\n  \
                  lateen dashboard istiod-debug")]
pub(crate) struct Dashboard {
    #[command(subcommand)]
    page: Page,
    /// The port on this machine; without it, that of the page where it is free, else any.
    #[arg(
        short,
        long,
        global = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    port: u16,
    /// The address on this machine. Whoever reaches it sees the page.
    #[arg(long, global = true, default_value = "localhost")]
    address: String,
    /// Open a browser.
    #[arg(long, global = true, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    browser: bool,
}

#[derive(Debug, Subcommand)]
enum Page {
    /// Prometheus, which collects the mesh's metrics
    Prometheus(Ui),
    /// Grafana, which draws them
    Grafana(Ui),
    /// Kiali, which shows the mesh as a graph
    Kiali(Ui),
    /// Jaeger, which shows traces
    Jaeger(Ui),
    /// Zipkin, which shows traces
    Zipkin(Ui),
    /// SkyWalking, which shows traces and metrics
    Skywalking(Ui),
    /// The admin pages of a proxy
    #[command(alias = "envoy")]
    Proxy(Proxy),
    /// ControlZ of the control plane, where its log's levels are
    Controlz(Controlz),
    /// The debug pages of the control plane
    #[command(name = "istiod-debug")]
    IstiodDebug(IstiodDebug),
}

/// An addon's page.
#[derive(Debug, Args)]
struct Ui {
    /// The addon's port in its pod; without it, that which it has by itself.
    #[arg(long = "ui-port", value_name = "PORT")]
    ui_port: Option<u16>,
}

#[derive(Debug, Args)]
struct Proxy {
    /// The proxy's pod, `name[.namespace]`, or a workload or a Service for one of its pods.
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<String>,
    /// One of the namespace's pods with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// The port of the admin pages in the pod.
    #[arg(long = "ui-port", default_value_t = ADMIN, value_name = "PORT")]
    ui_port: u16,
}

#[derive(Debug, Args)]
struct Controlz {
    /// The control plane's pod, `name[.namespace]` or `deploy/name[.namespace]`; without it, one of
    /// those that run.
    pod: Option<String>,
    /// The port of ControlZ in the pod.
    #[arg(long = "ctrlz_port", default_value_t = ports::CONTROLZ, value_name = "PORT")]
    ctrlz_port: u16,
}

#[derive(Debug, Args)]
struct IstiodDebug {
    /// The control plane's pod, `name[.namespace]` or `deploy/name[.namespace]`; without it, one of
    /// those that run.
    pod: Option<String>,
}

/// A program beside the mesh.
struct Addon {
    name: &'static str,
    /// Labels of its pods; the first that any pod has count.
    labels: &'static [&'static str],
    port: u16,
    /// How it comes into the cluster.
    install: &'static str,
}

const PROMETHEUS: Addon = Addon {
    name: "prometheus",
    labels: &["app.kubernetes.io/name=prometheus", "app=prometheus"],
    port: 9090,
    install: "add it by `lateen install --addon prometheus`",
};
const GRAFANA: Addon = Addon {
    name: "grafana",
    labels: &["app.kubernetes.io/name=grafana", "app=grafana"],
    port: 3000,
    install: "add it by `lateen install --addon grafana`",
};
const KIALI: Addon = Addon {
    name: "kiali",
    labels: &["app=kiali", "app.kubernetes.io/name=kiali"],
    port: 20001,
    install: "add it by `lateen install --addon kiali`",
};
const JAEGER: Addon = Addon {
    name: "jaeger",
    labels: &["app=jaeger", "app.kubernetes.io/name=jaeger"],
    port: 16686,
    install: "add it by `lateen install --addon tracing`",
};
const ZIPKIN: Addon = Addon {
    name: "zipkin",
    labels: &["app=zipkin", "app.kubernetes.io/name=zipkin"],
    port: 9411,
    install: "add it by `lateen install --addon zipkin`",
};
const SKYWALKING: Addon = Addon {
    name: "skywalking",
    labels: &["app=skywalking-ui", "app.kubernetes.io/name=skywalking-ui"],
    port: 8080,
    install: "install its page, whose pods have the label app=skywalking-ui",
};

/// A port of a pod, and where its page is.
struct Place {
    namespace: String,
    pod: String,
    port: u16,
    path: &'static str,
}

impl Dashboard {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        self.check_address()?;
        let client = client::connect(global).await?;
        let place = self.place(&client, global).await?;
        let forward = Forward::bind(&self.address, self.port, place.port).await?;
        let url = forward.url(place.path);
        output::line(&url);
        if self.browser {
            open(&url);
        }
        if std::io::stderr().is_terminal() {
            eprintln!(
                "forwarding to {}.{} until Ctrl-C",
                place.pod, place.namespace
            );
        }
        forward
            .serve(&client, &place.namespace, &place.pod, place.port)
            .await
    }

    /// ControlZ answers whoever asks for this machine by a name of its own, and nobody else: its page
    /// would open at another address, and be refused.
    fn check_address(&self) -> anyhow::Result<()> {
        let address: Option<IpAddr> = self.address.parse().ok();
        let is_elsewhere = address.is_some_and(|address| !address.is_loopback());
        if is_elsewhere && matches!(self.page, Page::Controlz(_)) {
            bail!(
                "--address {}: ControlZ answers on this machine's loopback alone, as whoever reaches it \
                 changes what is logged; leave --address out, or use `lateen admin log`",
                self.address
            );
        }
        Ok(())
    }

    async fn place(&self, client: &Client, global: &Global) -> anyhow::Result<Place> {
        match &self.page {
            Page::Prometheus(ui) => PROMETHEUS.place(client, global, ui).await,
            Page::Grafana(ui) => GRAFANA.place(client, global, ui).await,
            Page::Kiali(ui) => KIALI.place(client, global, ui).await,
            Page::Jaeger(ui) => JAEGER.place(client, global, ui).await,
            Page::Zipkin(ui) => ZIPKIN.place(client, global, ui).await,
            Page::Skywalking(ui) => SKYWALKING.place(client, global, ui).await,
            Page::Proxy(proxy) => proxy.place(client, global).await,
            Page::Controlz(Controlz { pod, ctrlz_port }) => {
                let (namespace, pod) = control_plane(client, global, pod.as_deref()).await?;
                Ok(Place {
                    namespace,
                    pod,
                    port: *ctrlz_port,
                    path: "/",
                })
            }
            Page::IstiodDebug(IstiodDebug { pod }) => {
                let (namespace, pod) = control_plane(client, global, pod.as_deref()).await?;
                Ok(Place {
                    namespace,
                    pod,
                    port: ports::CONTROL_PLANE_DEBUG,
                    path: "/debug",
                })
            }
        }
    }
}

impl Addon {
    async fn place(&self, client: &Client, global: &Global, ui: &Ui) -> anyhow::Result<Place> {
        let namespaces = namespaces(global);
        for namespace in &namespaces {
            for labels in self.labels {
                if let Some(pod) = running(client, namespace, labels).await? {
                    return Ok(Place {
                        namespace: (*namespace).to_owned(),
                        pod,
                        port: ui.ui_port.unwrap_or(self.port),
                        path: "/",
                    });
                }
            }
        }
        bail!("{}", self.missing(&namespaces))
    }

    fn missing(&self, namespaces: &[&str]) -> String {
        format!(
            "no pod of {} runs in namespace {} (none has the label {}): {}, or name the namespace \
             that has it with -n",
            self.name,
            namespaces.join(" or "),
            self.labels.join(" or "),
            self.install
        )
    }
}

/// Where addons are looked for: where the user says, else beside the control plane, which is where
/// they are installed.
fn namespaces(global: &Global) -> Vec<&str> {
    match &global.named_namespace {
        None => vec![&global.istio_namespace, &global.namespace],
        Some(named) => vec![named],
    }
}

impl Proxy {
    async fn place(&self, client: &Client, global: &Global) -> anyhow::Result<Place> {
        let (pod, namespace) = match (&self.pod, &self.selector) {
            (Some(pod), _) => client::find_pod(client, pod, global).await?,
            (None, labels) => {
                let labels = labels.as_deref().unwrap_or_default();
                let namespace = &global.namespace;
                let pod = running(client, namespace, labels).await?;
                let pod = pod.with_context(|| {
                    format!("no running pod of namespace {namespace} has the labels {labels}")
                })?;
                (pod, namespace.as_str())
            }
        };
        Ok(Place {
            namespace: namespace.to_owned(),
            pod,
            port: self.ui_port,
            path: "/",
        })
    }
}

/// A running pod with these labels.
async fn running(client: &Client, namespace: &str, labels: &str) -> anyhow::Result<Option<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(labels)).await;
    let pods = pods.with_context(|| format!("cannot list the pods of namespace {namespace}"))?;
    let mut running = pods.into_iter().filter(client::is_running);
    Ok(running.find_map(|pod| pod.metadata.name))
}

/// The namespace and the name of the control plane's pod that is meant.
async fn control_plane(
    client: &Client,
    global: &Global,
    named: Option<&str>,
) -> anyhow::Result<(String, String)> {
    if let Some(named) = named {
        let there = Global {
            namespace: global.istio_namespace.clone(),
            ..global.clone()
        };
        let (pod, namespace) = client::find_pod(client, named, &there).await?;
        return Ok((namespace.to_owned(), pod));
    }
    let mut pods = client::control_plane_pods(client, global).await?;
    Ok((global.istio_namespace.clone(), pods.remove(0)))
}

/// Opens a browser where there is a screen for one; otherwise the address is there to be read.
fn open(url: &str) {
    let has_screen = cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some());
    let program = match cfg!(target_os = "macos") {
        true => "open",
        false => "xdg-open",
    };
    let started = has_screen.then(|| {
        std::process::Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    if let Some(Err(error)) = started {
        eprintln!("lateen: no browser was opened ({program}: {error}); open the address yourself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        dashboard: Dashboard,
    }

    #[test]
    fn controlz_is_for_this_machine_alone() {
        use clap::Parser as _;
        for (page, address, is_taken) in [
            ("controlz", "localhost", true),
            ("controlz", "127.0.0.2", true),
            ("controlz", "::1", true),
            ("controlz", "0.0.0.0", false),
            ("controlz", "192.0.2.1", false),
            ("grafana", "0.0.0.0", true),
        ] {
            let flags = ["dashboard", page, "--address", address];
            let dashboard = Cli::try_parse_from(flags).expect("flags").dashboard;
            let checked = dashboard.check_address();
            assert_eq!(checked.is_ok(), is_taken, "{page} {address}: {checked:?}");
        }
    }

    #[test]
    fn an_addon_that_is_missing_says_how_to_get_it() {
        let told = GRAFANA.missing(&["istio-system", "default"]);
        assert!(told.contains("lateen install --addon grafana"), "{told}");
        assert!(told.contains("istio-system or default"), "{told}");
    }
}
