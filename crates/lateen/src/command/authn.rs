//! `lateen authn tls-check`: whether a client and the services that it calls agree on TLS, as `istioctl`
//! had it until 1.5.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use lateen_core::{Hostname, ObjectRef};
use lateen_explain::TlsCheck;

use super::describe::{DOMAIN, Seen};
use crate::{cli::Global, client, output, table::Table};

/// Look at how clients and servers prove who they are.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen authn tls-check productpage-v1-77bb.default\n  lateen authn tls-check deploy/productpage-v1 reviews.default.svc.cluster.local"
)]
pub(crate) struct Authn {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say for each service whether a pod and the service agree on TLS
    #[command(after_help = "Example:\n  lateen authn tls-check deploy/productpage-v1 reviews")]
    TlsCheck {
        /// The client: `name[.namespace]`, or `deploy/name[.namespace]` for a pod of a Deployment.
        pod: String,
        /// Only this service: `name[.namespace]`, or its full name.
        service: Option<String>,
    },
}

impl Authn {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let What::TlsCheck { pod, service } = &self.what;
        let client = client::connect(global).await?;
        let (pod, namespace) = client::find_pod(&client, pod, global).await?;
        let seen = Seen::of(global).await?;
        let caller = seen.platform.pod(&pod, namespace);
        let caller =
            caller.with_context(|| format!("there is no pod {pod}.{namespace} with an address"))?;
        let mut checks = seen.platform.tls_checks(&caller);
        if let Some(service) = service {
            let host = full(service, namespace);
            checks.retain(|check| check.host == host.as_str());
            if checks.is_empty() {
                bail!("{pod}.{namespace} sees no service {host}");
            }
        }
        output::print(table(&checks));
        Ok(())
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
