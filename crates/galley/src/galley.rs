//! Folds what the registry read to the set of valid configuration.

use std::{collections::BTreeMap, sync::Arc};

use lateen_api::{Object, mesh::MeshConfig, mesh_networks::MeshNetworks};
use lateen_core::ObjectRef;
use lateen_registry::{Feed, RawConfig, Registry, World};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    ConfigSet, Credentials, Fault, GatewayState, credentials,
    fault::describe,
    gateway_api::{Around, Objects, translate},
    generated::{Generated, Regenerated},
    unsupported, validate,
};

/// A running galley. Dropping it stops it; what was published stays.
#[derive(Debug)]
pub struct Galley {
    config: watch::Receiver<Arc<ConfigSet>>,
    faults: watch::Receiver<Arc<Faulty>>,
    gateways: watch::Receiver<Arc<GatewayState>>,
    folded: watch::Receiver<Folded>,
    task: JoinHandle<()>,
}

/// The valid configuration of what was read once; what is invalid is left out. The Gateway API's
/// objects and Ingresses are read against `world`, and no certificate is there for them.
pub fn fold(raw: &Arc<RawConfig>, world: &Arc<World>, domain: &str) -> ConfigSet {
    fold_with(raw, world, domain, Arc::new(crate::NoCredentials)).config
}

/// What came of configuration that was read once.
#[derive(Debug)]
pub struct Once {
    /// What is in force.
    pub config: ConfigSet,
    /// What is said of the Gateway API's objects.
    pub gateways: GatewayState,
    /// What is left out, and why.
    pub faulty: BTreeMap<ObjectRef, Vec<Fault>>,
}

/// The same as [`fold`] with certificates, and with what is to be said of it.
pub fn fold_with(
    raw: &Arc<RawConfig>,
    world: &Arc<World>,
    domain: &str,
    credentials: Arc<dyn Credentials>,
) -> Once {
    let (_, unchanging) = watch::channel(world.clone());
    let around = Surroundings {
        world: unchanging,
        credentials,
        domain: domain.to_owned(),
        trust_domain: None,
    };
    let mut fold = Fold::default();
    fold.next(raw);
    fold.generate(world, &around, true);
    Once {
        config: fold.whole(),
        gateways: fold.generated.state.clone(),
        faulty: fold.faulty,
    }
}

/// What has been folded in.
#[derive(Clone, Debug)]
struct Folded {
    raw: Arc<RawConfig>,
    world: Arc<World>,
}

/// Objects that are left out or held at their last good form, and why.
pub(crate) type Faulty = BTreeMap<ObjectRef, Vec<Fault>>;

/// What the Gateway API's objects and Ingresses are read against.
#[derive(Clone)]
pub struct Surroundings {
    /// Services and namespaces.
    pub world: watch::Receiver<Arc<World>>,
    /// Certificates.
    pub credentials: Arc<dyn Credentials>,
    /// The domain of service names, `cluster.local`.
    pub domain: String,
    /// The mesh's trust domain, where it is not its configuration that says it.
    pub trust_domain: Option<String>,
}

impl Galley {
    /// Folds what is there now before it returns, then every change. Must be called in a tokio
    /// runtime. Where the registry has not synced yet, [`Galley::synced`] tells when both have.
    pub fn start(mut raw: watch::Receiver<Arc<RawConfig>>, mut around: Surroundings) -> Self {
        let mut fold = Fold::of(around.trust_domain.clone());
        let first = Folded {
            raw: raw.borrow_and_update().clone(),
            world: around.world.borrow_and_update().clone(),
        };
        let mut changes = around.credentials.changes();
        fold.next(&first.raw);
        fold.generate(&first.world, &around, true);
        let (config_tx, config) = watch::channel(Arc::new(fold.whole()));
        let (faults_tx, faults) = watch::channel(Arc::new(fold.faulty.clone()));
        let (gateways_tx, gateways) = watch::channel(Arc::new(fold.generated.state.clone()));
        let (folded_tx, folded) = watch::channel(first);
        let task = tokio::spawn(async move {
            loop {
                let anew = tokio::select! {
                    changed = raw.changed() => match changed {
                        Ok(()) => false,
                        Err(_) => return,
                    },
                    Ok(()) = around.world.changed() => false,
                    Ok(()) = changes.changed() => true,
                };
                let next = Folded {
                    raw: raw.borrow_and_update().clone(),
                    world: around.world.borrow_and_update().clone(),
                };
                let changed = fold.next(&next.raw);
                let generated = fold.generate(&next.world, &around, anew);
                if changed.faults {
                    faults_tx.send_replace(Arc::new(fold.faulty.clone()));
                }
                if changed.config || generated.objects {
                    config_tx.send_replace(Arc::new(fold.whole()));
                }
                if generated.state {
                    gateways_tx.send_replace(Arc::new(fold.generated.state.clone()));
                }
                folded_tx.send_replace(next);
            }
        });
        Self {
            config,
            faults,
            gateways,
            folded,
            task,
        }
    }

    /// The valid configuration, with what follows from objects of the Gateway API and from Ingresses;
    /// changes only when it differs.
    pub fn config(&self) -> watch::Receiver<Arc<ConfigSet>> {
        self.config.clone()
    }

    /// The same as [`Galley::config`], with what changed since the reader last looked.
    pub fn config_feed(&self) -> Feed<ConfigSet> {
        Feed::new(self.config.clone())
    }

    /// What follows from objects of the Gateway API and from Ingresses beside configuration.
    pub fn gateways(&self) -> watch::Receiver<Arc<GatewayState>> {
        self.gateways.clone()
    }

    /// Waits until the registry has its first complete state and that state is folded in. Before
    /// this, the configuration is empty, and acting on it would take every route away.
    pub async fn synced(&self, registry: &Registry) {
        registry.synced().await;
        let (raw, world) = (registry.config(), registry.world());
        let mut folded = self.folded.clone();
        // An error means that the task is gone, which is the end of the process.
        let _ = folded
            .wait_for(|held| {
                Arc::ptr_eq(&held.raw, &raw.borrow()) && Arc::ptr_eq(&held.world, &world.borrow())
            })
            .await;
    }

    /// What is wrong, by object.
    pub fn faults(&self) -> watch::Receiver<Arc<BTreeMap<ObjectRef, Vec<Fault>>>> {
        self.faults.clone()
    }
}

impl Drop for Galley {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a mesh configuration cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("mesh configuration: {0}")]
pub struct MeshError(String);

/// Reads key `mesh` of ConfigMap `istio`; an empty text is the default mesh.
pub fn parse_mesh(text: &str) -> Result<MeshConfig, MeshError> {
    if text.trim().is_empty() {
        return Ok(MeshConfig::default());
    }
    let mesh: MeshConfig =
        serde_saphyr::from_str(text).map_err(|error| MeshError(error.to_string()))?;
    mesh.check_trust_domains().map_err(MeshError)?;
    Ok(mesh)
}

/// Reads key `meshNetworks` of ConfigMap `istio`; an empty text is a mesh of one network.
pub fn parse_networks(text: &str) -> Result<MeshNetworks, MeshError> {
    if text.trim().is_empty() {
        return Ok(MeshNetworks::default());
    }
    serde_saphyr::from_str(text).map_err(|error| MeshError(error.to_string()))
}

#[derive(Default)]
struct Fold {
    raw: Arc<RawConfig>,
    good: BTreeMap<ObjectRef, Typed>,
    faulty: Faulty,
    set: ConfigSet,
    /// Above what the mesh's configuration says.
    trust_domain: Option<String>,
    /// Objects that others define and the mesh reads.
    objects: Objects,
    /// Whether something is different that decides what follows from them.
    stale: bool,
    /// The world that it was read against.
    world: Arc<World>,
    generated: Generated,
    /// How many objects have been judged, which tests hold against what changed.
    judged: usize,
}

/// What the last step made different.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Changed {
    config: bool,
    faults: bool,
}

macro_rules! typed {
    ($($variant:ident => $list:ident),* $(,)?) => {
        #[derive(Clone, PartialEq)]
        enum Typed {
            $($variant(Arc<Object<lateen_api::networking::$variant>>),)*
            PeerAuthentication(Arc<Object<lateen_api::security::PeerAuthentication>>),
        }

        fn typed(kind: &str, raw: &Value) -> Option<Typed> {
            match kind {
                $(stringify!($variant) => read(raw).map(Typed::$variant),)*
                "PeerAuthentication" => read(raw).map(Typed::PeerAuthentication),
                _ => None,
            }
        }

        impl Typed {
            fn add_to(self, set: &mut ConfigSet) {
                match self {
                    $(Typed::$variant(object) => add(&mut set.$list, object),)*
                    Typed::PeerAuthentication(object) => add(&mut set.peer_authentications, object),
                }
            }

            fn remove_from(&self, set: &mut ConfigSet) {
                match self {
                    $(Typed::$variant(object) => remove(&mut set.$list, object),)*
                    Typed::PeerAuthentication(object) => {
                        remove(&mut set.peer_authentications, object);
                    }
                }
            }
        }
    };
}

typed! {
    VirtualService => virtual_services,
    DestinationRule => destination_rules,
    Gateway => gateways,
    ServiceEntry => service_entries,
    WorkloadEntry => workload_entries,
    Sidecar => sidecars,
    EnvoyFilter => envoy_filters,
    ProxyConfig => proxy_configs,
}

fn read<T: DeserializeOwned>(raw: &Value) -> Option<Arc<Object<T>>> {
    Object::from_value(raw).ok().map(Arc::new)
}

/// Where an object stands in its list, or would stand.
pub(crate) fn place<T>(list: &[Arc<Object<T>>], object: &Object<T>) -> Result<usize, usize> {
    fn rank<T>(object: &Object<T>) -> impl Ord + '_ {
        let meta = &object.meta;
        (meta.creation_timestamp, &meta.namespace, &meta.name)
    }
    list.binary_search_by(|held| rank(held).cmp(&rank(object)))
}

pub(crate) fn add<T>(list: &mut Vec<Arc<Object<T>>>, object: Arc<Object<T>>) {
    let (Ok(at) | Err(at)) = place(list, &object);
    list.insert(at, object);
}

fn remove<T>(list: &mut Vec<Arc<Object<T>>>, object: &Object<T>) {
    if let Ok(at) = place(list, object) {
        list.remove(at);
    }
}

impl Fold {
    fn of(trust_domain: Option<String>) -> Self {
        let mut fold = Fold {
            trust_domain,
            ..Fold::default()
        };
        fold.set.mesh = Arc::new(fold.in_trust(MeshConfig::default()));
        fold
    }

    /// A mesh, in the trust domain that it is told to be of.
    fn in_trust(&self, mut mesh: MeshConfig) -> MeshConfig {
        if let Some(own) = &self.trust_domain {
            mesh.trust_domain = Some(own.clone());
        }
        mesh
    }

    /// Takes in what is different from the last time.
    fn next(&mut self, raw: &Arc<RawConfig>) -> Changed {
        let mut changed = Changed::default();
        let before = std::mem::replace(&mut self.raw, raw.clone());
        for key in raw.objects.changed(&before.objects) {
            let value = raw.objects.get(&key).map(Arc::as_ref);
            if let Some(differs) = self.objects.set(&key, value) {
                self.stale |= differs;
                continue;
            }
            let of_object = match raw.objects.get(&key) {
                Some(value) => self.judge(key, value),
                None => self.forget(&key),
            };
            changed.config |= of_object.config;
            changed.faults |= of_object.faults;
        }
        if raw.mesh != before.mesh {
            self.stale = true;
            changed.config |= self.next_mesh(raw.mesh.as_deref().unwrap_or_default());
        }
        if raw.networks != before.networks {
            changed.config |= self.next_networks(raw.networks.as_deref().unwrap_or_default());
        }
        changed
    }

    /// Reads the objects of others again where what they are read against is different. Endpoints,
    /// which change all the time, do not count.
    fn generate(&mut self, world: &Arc<World>, around: &Surroundings, anew: bool) -> Regenerated {
        let before = std::mem::replace(&mut self.world, world.clone());
        let stale = std::mem::take(&mut self.stale);
        let differs = stale
            || anew
            || (!self.objects.is_empty()
                && (!world.services.changed(&before.services).is_empty()
                    || !world.namespaces.changed(&before.namespaces).is_empty()));
        if !differs {
            return Regenerated::default();
        }
        let translation = translate(Around {
            in_mesh: false,
            objects: &self.objects,
            world,
            credentials: &credentials::Once::new(&*around.credentials),
            mesh: &self.set.mesh,
            domain: &around.domain,
        });
        self.generated.replace(translation)
    }

    /// What users wrote, and what follows from objects of others.
    fn whole(&self) -> ConfigSet {
        let mut set = self.set.clone();
        self.generated.add_to(&mut set);
        set
    }

    fn forget(&mut self, key: &ObjectRef) -> Changed {
        Changed {
            faults: self.faulty.remove(key).is_some(),
            config: self.replace(key, None),
        }
    }

    /// An unknown field is a fault to refuse a new document for, but no reason to drop a stored one:
    /// it may come from a newer version.
    fn judge(&mut self, key: ObjectRef, raw: &Value) -> Changed {
        self.judged += 1;
        let faults = validate(raw);
        let mut of_faults = faults.iter();
        let grave = of_faults.any(|fault| fault.reason != crate::shape::UNKNOWN_FIELD);
        let config = !grave && self.replace(&key, typed(key.kind, raw));
        if grave {
            tracing::warn!(
                kind = key.kind,
                namespace = %key.namespace,
                name = %key.name,
                kept = self.good.contains_key(&key),
                faults = describe(&faults),
                "invalid object left out"
            );
        }
        let faults = if faults.is_empty() {
            self.faulty.remove(&key).is_some()
        } else {
            self.faulty.insert(key, faults.clone()) != Some(faults)
        };
        Changed { config, faults }
    }

    /// Sets the good form of an object; whether it is another than before. What is equal keeps its
    /// allocation.
    fn replace(&mut self, key: &ObjectRef, new: Option<Typed>) -> bool {
        let old = self.good.get(key);
        if old == new.as_ref() {
            return false;
        }
        if let Some(old) = old {
            old.remove_from(&mut self.set);
        }
        match new {
            Some(new) => {
                self.good.insert(key.clone(), new.clone());
                new.add_to(&mut self.set);
            }
            None => {
                self.good.remove(key);
            }
        }
        true
    }

    fn next_networks(&mut self, text: &str) -> bool {
        match parse_networks(text) {
            Ok(networks) => {
                for unused in unsupported::of_networks(&networks) {
                    tracing::warn!(unused, "ConfigMap istio, key meshNetworks: has no effect");
                }
                let changed = *self.set.networks != networks;
                if changed {
                    self.set.networks = Arc::new(networks);
                }
                changed
            }
            Err(error) => {
                tracing::error!(%error, "ConfigMap istio, key meshNetworks: last form kept");
                false
            }
        }
    }

    fn next_mesh(&mut self, text: &str) -> bool {
        match parse_mesh(text) {
            Ok(mesh) => {
                for field in unsupported::of_mesh(text) {
                    tracing::warn!(field, "ConfigMap istio: not supported, has no effect");
                }
                let mesh = self.in_trust(mesh);
                let changed = *self.set.mesh != mesh;
                if changed {
                    self.set.mesh = Arc::new(mesh);
                }
                changed
            }
            Err(error) => {
                tracing::error!(%error, "ConfigMap istio is invalid, last form kept");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
