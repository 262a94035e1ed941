//! Gateways of the Gateway API: their statuses, and what those of class `istio` run on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use lateen_api::{
    gateway_api::GatewayDeployment,
    kinds::gateway_api::{GATEWAY_CLASS, INGRESS},
    labels::GATEWAY_NAME,
};
use lateen_core::{Backoff, ObjectRef};
use lateen_galley::{CLASS, CONTROLLER, Galley, GatewayState};
use lateen_injector::Params;
use lateen_install::gateway_manifests;
use lateen_registry::{StatusOwner, StatusTarget, StatusWriter, WATCHED_KINDS, WantedStatus};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::revisions::{Known, Revisions};

const OWNER: StatusOwner = StatusOwner {
    name: "gateway-api",
    conditions: &["Accepted", "Programmed", "ResolvedRefs"],
    controller: CONTROLLER,
};
/// Who the API server notes as the one who made a gateway's objects.
pub(crate) const FIELD_MANAGER: &str = "istio.io/gateway-controller";
/// How often everything is applied again, since others may have changed it.
const RECHECK: Duration = Duration::from_secs(30);

/// Who writes what is said of which objects: leaders may be different ones.
pub(super) struct Writers {
    /// Of the Gateway API's.
    pub(super) gateways: StatusWriter,
    /// Of Ingresses.
    pub(super) ingresses: StatusWriter,
}

impl Writers {
    fn of(&self, key: &ObjectRef) -> &StatusWriter {
        match key.kind == INGRESS.id() {
            true => &self.ingresses,
            false => &self.gateways,
        }
    }
}

/// Tells the writers what is to be said of each object.
pub(super) async fn keep_statuses(
    mut gateways: watch::Receiver<Arc<GatewayState>>,
    writers: Writers,
) {
    let mut said = Arc::new(GatewayState::default());
    loop {
        let new = gateways.borrow_and_update().clone();
        for (key, wanted) in &new.statuses {
            if let Some(target) = target(key) {
                let wanted = WantedStatus {
                    generation: wanted.generation,
                    status: wanted.status.clone(),
                };
                writers.of(key).set(OWNER, target, wanted);
            }
        }
        for key in said.statuses.keys() {
            if !new.statuses.contains_key(key)
                && let Some(target) = target(key)
            {
                take_back(writers.of(key), key, target);
            }
        }
        said = new;
        if gateways.changed().await.is_err() {
            return;
        }
    }
}

/// A route that names none of ours any more keeps what others say of it. If it is gone, nobody is
/// told.
fn take_back(writer: &StatusWriter, key: &ObjectRef, target: StatusTarget) {
    let list = match key.kind {
        kind if kind.ends_with("Route") => "parents",
        "BackendTLSPolicy" => "ancestors",
        _ => return writer.forget(OWNER, &target),
    };
    let wanted = WantedStatus {
        generation: 0,
        status: json!({list: []}),
    };
    writer.set(OWNER, target, wanted);
}

fn target(key: &ObjectRef) -> Option<StatusTarget> {
    let kind = WATCHED_KINDS.iter().find(|kind| kind.id() == key.kind)?;
    Some(StatusTarget::new(kind, &key.namespace, &key.name))
}

/// Makes what Gateways of this revision run on, while this replica leads.
pub(super) struct Deployer {
    client: Client,
    gateways: watch::Receiver<Arc<GatewayState>>,
    params: watch::Receiver<Arc<Params>>,
    revisions: Known,
    leading: watch::Receiver<bool>,
    /// Whether the class is declared as well.
    declares_class: bool,
    /// What was applied last, by kind, namespace and name.
    applied: BTreeMap<String, Value>,
}

impl Deployer {
    pub(super) fn new(
        client: &Client,
        galley: &Galley,
        params: watch::Receiver<Arc<Params>>,
        revisions: Known,
        leading: watch::Receiver<bool>,
        declares_class: bool,
    ) -> Self {
        Deployer {
            client: client.clone(),
            gateways: galley.gateways(),
            params,
            revisions,
            leading,
            declares_class,
            applied: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        while self.leading.wait_for(|leads| *leads).await.is_ok() {
            let gateways = self.gateways.borrow_and_update().clone();
            let params = self.params.borrow_and_update().clone();
            // Until tags are known, nobody can say whose a Gateway is.
            let revisions = self.revisions.borrow_and_update().clone();
            let mut leading = self.leading.clone();
            let applied = match &revisions {
                Some(revisions) => tokio::select! {
                    biased;
                    // What is under way is left as it is: whoever leads now applies everything.
                    _ = leading.wait_for(|leads| !*leads) => {
                        self.applied.clear();
                        continue;
                    }
                    applied = self.apply_all(&gateways, &params, revisions) => applied,
                },
                None => Ok(()),
            };
            let wait = match applied {
                Ok(()) => {
                    backoff.reset();
                    RECHECK
                }
                Err(error) => {
                    warn!(%error, "what Gateways run on is not applied yet; trying again");
                    backoff.next_delay()
                }
            };
            let closed = tokio::select! {
                () = tokio::time::sleep(wait) => {
                    self.applied.clear();
                    false
                }
                changed = self.gateways.changed() => changed.is_err(),
                changed = self.params.changed() => changed.is_err(),
                changed = self.revisions.changed() => changed.is_err(),
                _ = leading.wait_for(|leads| !*leads) => {
                    self.applied.clear();
                    false
                }
            };
            if closed {
                return;
            }
        }
    }

    /// All Gateways, whatever becomes of one of them; the last error ends it.
    async fn apply_all(
        &mut self,
        state: &GatewayState,
        params: &Params,
        revisions: &Revisions,
    ) -> Result<(), kube::Error> {
        let mut outcome = match self.declares_class {
            true => self.declare_class().await,
            false => Ok(()),
        };
        for gateway in &state.deployments {
            if !revisions.owns(&gateway.revision) {
                self.forget(gateway);
                continue;
            }
            for object in gateway_manifests(gateway, params) {
                if let Err(error) = self.apply(gateway, object).await {
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// What another revision runs may be different when it comes back.
    fn forget(&mut self, gateway: &GatewayDeployment) {
        let name = format!(" {}/{}", gateway.namespace, gateway.name);
        self.applied.retain(|key, _| !key.ends_with(&name));
    }

    /// The class need not be declared by users, but some look for it.
    async fn declare_class(&mut self) -> Result<(), kube::Error> {
        let object = json!({
            "apiVersion": GATEWAY_CLASS.api_version(),
            "kind": GATEWAY_CLASS.kind,
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER, "description": "Gateways that the mesh runs"},
        });
        if self.applied.get(CLASS) == Some(&object) {
            return Ok(());
        }
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(&object));
        let held = match api.get_opt(CLASS).await {
            // The Gateway API is not installed, which an API server says in plain text.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            held => held?,
        };
        // Whoever has declared it knows why.
        if held.is_none() {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            match api.patch(CLASS, &params, &Patch::Apply(&object)).await {
                // It is not installed either: some say it as they say of an object.
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                applied => applied.map(drop)?,
            }
        }
        self.applied.insert(CLASS.to_owned(), object);
        Ok(())
    }

    async fn apply(&mut self, of: &GatewayDeployment, object: Value) -> Result<(), kube::Error> {
        let kind = object["kind"].as_str().unwrap_or_default();
        // The account may be called otherwise than the rest.
        let name = object["metadata"]["name"].as_str().unwrap_or(&of.name);
        let key = format!("{kind} {}/{}", of.namespace, of.name);
        if self.applied.get(&key) == Some(&object) {
            return Ok(());
        }
        let resource = resource(&object);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &of.namespace, &resource);
        if let Some(held) = api.get_opt(name).await? {
            let owner = held
                .metadata
                .labels
                .as_ref()
                .and_then(|l| l.get(GATEWAY_NAME));
            if owner != Some(&of.gateway) {
                warn!(
                    object = key,
                    gateway = of.gateway,
                    "an object of this name is there and not of the Gateway; it is left alone"
                );
                return Ok(());
            }
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &params, &Patch::Apply(&object)).await?;
        info!(object = key, gateway = of.gateway, "applied");
        self.applied.insert(key, object);
        Ok(())
    }
}

fn resource(object: &Value) -> ApiResource {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")))
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use tokio::sync::mpsc;

    use super::*;

    /// Where a request is answered, if ever; it is gone with whoever asked.
    type Answer = mpsc::Sender<()>;

    /// An API server that tells of each request, and answers none.
    fn silent() -> (Client, mpsc::UnboundedReceiver<Answer>) {
        let (asked_tx, asked) = mpsc::unbounded_channel();
        let serve = move |_: hyper::Request<Body>| {
            let asked_tx = asked_tx.clone();
            async move {
                let (answer, mut waits) = mpsc::channel::<()>(1);
                asked_tx.send(answer).expect("the test looks on");
                waits.recv().await;
                Err::<hyper::Response<Body>, _>(std::io::Error::other("the test ends"))
            }
        };
        (Client::new(tower::service_fn(serve), "default"), asked)
    }

    #[tokio::test]
    async fn who_leads_no_more_writes_nothing_more() {
        let (client, mut asked) = silent();
        let (leading_tx, leading) = watch::channel(true);
        let (_gateways_tx, gateways) = watch::channel(Arc::default());
        let (_params_tx, params) = watch::channel(Arc::default());
        let (_revisions_tx, revisions) = watch::channel(Some(Revisions::default()));
        let deployer = Deployer {
            client,
            gateways,
            params,
            revisions,
            leading,
            declares_class: true,
            applied: BTreeMap::new(),
        };
        let deploying = tokio::spawn(deployer.run());
        let within = Duration::from_secs(60);
        let mut next = async || {
            let next = tokio::time::timeout(within, asked.recv()).await;
            next.expect("it asks").expect("it runs")
        };
        let first = next().await;
        leading_tx.send_replace(false);
        let given_up = tokio::time::timeout(within, first.closed()).await;
        given_up.expect("what is under way ends with leadership");
        leading_tx.send_replace(true);
        drop(next().await);
        deploying.abort();
    }

    #[test]
    fn statuses_go_to_the_kinds_that_are_meant() {
        let check = |kind, group: &str, plural: &str| {
            let target = target(&ObjectRef::new(kind, "ns", "a")).expect("a kind");
            assert_eq!((target.kind.group, target.kind.plural), (group, plural));
        };
        check("Gateway", "networking.istio.io", "gateways");
        check("KubernetesGateway", "gateway.networking.k8s.io", "gateways");
        check("HTTPRoute", "gateway.networking.k8s.io", "httproutes");
        check("Ingress", "networking.k8s.io", "ingresses");
        assert!(target(&ObjectRef::new("Odd", "ns", "a")).is_none());
    }

    #[test]
    fn resources_are_found_by_their_kind() {
        let of = |api: &str, kind: &str| resource(&json!({"apiVersion": api, "kind": kind}));
        let class = of("gateway.networking.k8s.io/v1", "GatewayClass");
        assert_eq!(class.plural, "gatewayclasses");
        let account = of("v1", "ServiceAccount");
        assert_eq!((&*account.group, &*account.plural), ("", "serviceaccounts"));
    }
}
