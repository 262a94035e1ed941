//! `lateen authn tls-check`: whether a client and the services that it calls agree on TLS, as `istioctl`
//! had it until 1.5.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use lateen_core::{Hostname, ObjectRef};
use lateen_explain::TlsCheck;

use super::describe::{DOMAIN, Seen};
use crate::{cli::Global, client, output, table::Table};

/// Look at how clients and servers prove who they are.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen authn tls-check\n  lateen authn tls-check reviews.default.svc.cluster.local\n  lateen authn tls-check productpage-v1-77bb.default\n  lateen authn tls-check deploy/productpage-v1 reviews.default.svc.cluster.local"
)]
pub(crate) struct Authn {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say for each service whether clients and the service agree on TLS
    #[command(after_help = "Example:\n  lateen authn tls-check deploy/productpage-v1 reviews")]
    TlsCheck {
        /// The client: `name[.namespace]`, or `deploy/name[.namespace]` for a pod of a Deployment. A
        /// service alone may be named instead; the client is then any pod of the namespace of -n.
        #[arg(value_name = "POD|SERVICE")]
        pod: Option<String>,
        /// Only this service: `name[.namespace]`, or its full name.
        service: Option<String>,
    },
}

/// Who asks, and after what.
struct Question {
    /// None is any client of the namespace.
    pod: Option<String>,
    namespace: String,
    /// None are all services.
    service: Option<Hostname>,
}

impl Authn {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let What::TlsCheck { pod, service } = &self.what;
        let client = client::connect(global).await?;
        let question = match (pod, service) {
            (Some(named), None) => Question::of_one(&client, named, global).await?,
            (Some(pod), Some(service)) => {
                let (pod, namespace) = client::find_pod(&client, pod, global).await?;
                Question {
                    service: Some(full(service, namespace)),
                    pod: Some(pod),
                    namespace: namespace.to_owned(),
                }
            }
            (None, _) => Question {
                pod: None,
                namespace: global.namespace.clone(),
                service: None,
            },
        };
        output::print(table(&question.answer(&Seen::of(global).await?)?));
        Ok(())
    }
}

impl Question {
    /// A pod, where there is one of the name; until Istio 1.0 it was a service.
    async fn of_one(client: &Client, named: &str, global: &Global) -> anyhow::Result<Self> {
        let (pod, namespace) = client::find_pod(client, named, global).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let is_pod = named.contains('/') || pods.get_opt(&pod).await?.is_some();
        Ok(match is_pod {
            true => Question {
                pod: Some(pod),
                namespace: namespace.to_owned(),
                service: None,
            },
            false => Question {
                pod: None,
                namespace: global.namespace.clone(),
                service: Some(full(named, &global.namespace)),
            },
        })
    }

    fn answer(&self, seen: &Seen) -> anyhow::Result<Vec<TlsCheck>> {
        let Question { pod, namespace, .. } = self;
        let (who, caller) = match pod {
            Some(pod) => {
                let name = format!("{pod}.{namespace}");
                let caller = seen.platform.pod(pod, namespace);
                (format!("pod {name}"), caller)
            }
            None => {
                let who = format!("a client of namespace {namespace}");
                (who, seen.platform.anybody(namespace))
            }
        };
        let caller =
            caller.with_context(|| format!("nothing is known of {who}: it has no address"))?;
        let mut checks = seen.platform.tls_checks(&caller);
        let Some(service) = &self.service else {
            return Ok(checks);
        };
        checks.retain(|check| check.host == service.as_str());
        if checks.is_empty() {
            let or_pod = if pod.is_none() {
                ", nor is there a pod of that name"
            } else {
                ""
            };
            bail!(
                "{who} sees no service {service}{or_pod}; `kubectl get services -A` lists the services"
            );
        }
        Ok(checks)
    }
}

/// `reviews`, `reviews.shop` and the full name are one.
fn full(service: &str, namespace: &str) -> Hostname {
    match service.split('.').collect::<Vec<_>>()[..] {
        [name] => Hostname::service(name, namespace, DOMAIN),
        [name, namespace] => Hostname::service(name, namespace, DOMAIN),
        _ => Hostname::new(service),
    }
}

fn table(checks: &[TlsCheck]) -> Table {
    let mut table = Table::new([
        "HOST:PORT",
        "STATUS",
        "SERVER",
        "CLIENT",
        "AUTHN POLICY",
        "DESTINATION RULE",
    ]);
    let named = |object: &Option<ObjectRef>| match object {
        Some(object) => format!("{}/{}", object.name, object.namespace),
        None => "-".to_owned(),
    };
    for check in checks {
        table.row([
            format!("{}:{}", check.host, check.port),
            check.status.as_str().to_owned(),
            check.server.clone(),
            check.client.as_str().to_owned(),
            named(&check.policy),
            named(&check.rule),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use lateen_api::networking::ClientTlsMode;
    use lateen_explain::Agreement;

    use super::*;

    #[test]
    fn services_are_named_in_three_ways() {
        let expect = Hostname::new("reviews.shop.svc.cluster.local");
        for text in ["reviews", "reviews.shop", "reviews.shop.svc.cluster.local"] {
            assert_eq!(full(text, "shop"), expect, "{text}");
        }
    }

    #[test]
    fn columns_are_those_of_istioctl() {
        let check = TlsCheck {
            host: "a".to_owned(),
            port: 80,
            status: Agreement::Conflict,
            server: "STRICT".to_owned(),
            client: ClientTlsMode::Disable,
            policy: Some(ObjectRef::new("PeerAuthentication", "ns", "p")),
            rule: None,
        };
        assert_eq!(
            table(&[check]).to_string(),
            "HOST:PORT     STATUS       SERVER     CLIENT      AUTHN POLICY     DESTINATION RULE\n\
             a:80          CONFLICT     STRICT     DISABLE     p/ns             -\n"
        );
    }
}
