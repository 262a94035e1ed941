//! What pods are injected with: the injector's ConfigMap, the mesh's configuration, and what the nodes
//! can run.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use lateen_core::ports;
use lateen_galley::Galley;
use lateen_injector::{InjectorConfig, Params};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Options;

/// The ConfigMap, where the control plane has no revision of its own.
const CONFIG_MAP: &str = "istio-sidecar-injector";
/// How long the first answer may take. Without one, pods get what the program has by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Since this version of Kubernetes, native sidecars are there for good.
const NATIVE_SINCE: (u32, u32) = (1, 33);

/// Starts to follow all of it; returns when each part was there once.
pub(super) async fn follow(
    client: &Client,
    galley: &Galley,
    options: &Options,
) -> watch::Receiver<Arc<Params>> {
    let name = options.revisioned(CONFIG_MAP);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &options.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut config = Config::new(name);
    let configs = keep(api, only, move |objects| config.read(objects));

    let native = Native::of_environment();
    let every = watcher::Config::default();
    let nodes = keep(Api::<Node>::all(client.clone()), every, move |objects| {
        Some(native.judge(objects))
    });
    let base = Params {
        domain: options.domain.clone(),
        cluster_id: options.cluster_id.clone(),
        revision: options.revision.clone(),
        ca_address: format!(
            "{}.{}.svc:{}",
            options.revisioned("istiod"),
            options.namespace,
            ports::XDS_TLS
        ),
        ..Params::default()
    };
    let mut sources = Sources {
        base,
        galley: galley.config(),
        configs,
        nodes,
    };
    sources.ready().await;
    let (params_tx, params_rx) = watch::channel(sources.params());
    tokio::spawn(async move {
        while sources.changed().await {
            params_tx.send_replace(sources.params());
        }
    });
    params_rx
}

/// Everything that injection depends on. What was never read is `None`.
struct Sources {
    base: Params,
    galley: watch::Receiver<Arc<lateen_galley::ConfigSet>>,
    configs: watch::Receiver<Option<Arc<InjectorConfig>>>,
    nodes: watch::Receiver<Option<Nodes>>,
}

impl Sources {
    async fn ready(&mut self) {
        let ready = async {
            // An end of either is the end of the program.
            let _ = self.configs.wait_for(Option::is_some).await;
            let _ = self.nodes.wait_for(Option::is_some).await;
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            warn!("the injector's ConfigMap or the nodes are late, going on without them");
        }
    }

    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.galley.changed() => changed.is_ok(),
            changed = self.configs.changed() => changed.is_ok(),
            changed = self.nodes.changed() => changed.is_ok(),
        }
    }

    fn params(&mut self) -> Arc<Params> {
        let nodes = self.nodes.borrow_and_update().clone().unwrap_or_default();
        let config = self.configs.borrow_and_update().clone().unwrap_or_default();
        let galley = Arc::clone(&self.galley.borrow_and_update());
        let params = Params {
            native_sidecar: nodes.all,
            nodes: nodes.each,
            ..self.base.clone()
        };
        let params = params.with_config(config);
        let mesh = Arc::clone(&galley.mesh);
        Arc::new(params.with_mesh(mesh, galley.proxy_configs.clone()))
    }
}

/// Follows objects and keeps what `read` makes of all of them; `None` keeps what was there.
pub(super) fn keep<K, T>(
    api: Api<K>,
    which: watcher::Config,
    mut read: impl FnMut(&BTreeMap<String, K>) -> Option<T> + Send + 'static,
) -> watch::Receiver<Option<T>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let (kept_tx, kept_rx) = watch::channel(None);
    tokio::spawn(async move {
        let events = watcher(api, which).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut objects: BTreeMap<String, K> = BTreeMap::new();
        let name = |object: &K| object.meta().name.clone().unwrap_or_default();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    objects.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    objects.insert(name(&object), object);
                    continue;
                }
                Ok(Event::Apply(object)) => {
                    objects.insert(name(&object), object);
                }
                Ok(Event::Delete(object)) => {
                    objects.remove(&name(&object));
                }
                Ok(Event::InitDone) => {}
                Err(error) => {
                    let kind = K::kind(&());
                    warn!(%kind, %error, "a watch broke; it starts again");
                    continue;
                }
            }
            if let Some(new) = read(&objects) {
                kept_tx.send_if_modified(|held| {
                    let is_new = held.as_ref() != Some(&new);
                    *held = Some(new);
                    is_new
                });
            }
        }
    });
    kept_rx
}

/// Reads the ConfigMap.
struct Config {
    name: String,
    /// Whether a usable one was there before.
    was_read: bool,
}

impl Config {
    fn new(name: String) -> Self {
        Self {
            name,
            was_read: false,
        }
    }

    /// `None` where the last one that could be read is to hold on.
    fn read(&mut self, objects: &BTreeMap<String, ConfigMap>) -> Option<Arc<InjectorConfig>> {
        let name = &self.name;
        let kept = if self.was_read {
            "what was read before holds on"
        } else {
            "pods get what the program has by itself"
        };
        let Some(object) = objects.get(name) else {
            warn!(name, "there is no ConfigMap of the injector; {kept}");
            return (!self.was_read).then(Arc::default);
        };
        let text = |key: &str| object.data.as_ref()?.get(key).map(String::as_str);
        let (config, values) = (text("config"), text("values"));
        match InjectorConfig::parse(config.unwrap_or_default(), values.unwrap_or_default()) {
            Ok(config) => {
                for warning in config.warnings() {
                    warn!(name, warning, "the injector's ConfigMap");
                }
                info!(name, "the injector's ConfigMap is read");
                self.was_read = true;
                Some(Arc::new(config))
            }
            Err(error) => {
                error!(name, %error, "the injector's ConfigMap cannot be used; {kept}");
                (!self.was_read).then(Arc::default)
            }
        }
    }
}

/// Which nodes run native sidecars.
#[derive(Clone, Debug, Default, PartialEq)]
struct Nodes {
    /// Whether all of them do.
    all: bool,
    each: Arc<BTreeMap<String, bool>>,
}

/// What the environment says of native sidecars.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Native {
    /// Where the cluster has them.
    Auto,
    Always,
    Never,
}

impl Native {
    fn of_environment() -> Self {
        let wish = std::env::var("ENABLE_NATIVE_SIDECARS").unwrap_or_default();
        Self::of(&wish).unwrap_or_else(|| {
            let known = "true, false and auto are known; auto it is";
            warn!(ENABLE_NATIVE_SIDECARS = wish, known, "not understood");
            Self::Auto
        })
    }

    fn of(wish: &str) -> Option<Self> {
        match wish.to_ascii_lowercase().as_str() {
            "" | "auto" => Some(Self::Auto),
            "true" => Some(Self::Always),
            "false" => Some(Self::Never),
            _ => None,
        }
    }

    /// A pod that has no node yet may come to any of them.
    fn judge(self, nodes: &BTreeMap<String, Node>) -> Nodes {
        if self != Self::Auto {
            return Nodes {
                all: self == Self::Always,
                each: Arc::default(),
            };
        }
        let each: BTreeMap<String, bool> = nodes
            .iter()
            .map(|(name, node)| (name.clone(), has_native_sidecars(node)))
            .collect();
        Nodes {
            all: !each.is_empty() && each.values().all(|has| *has),
            each: Arc::new(each),
        }
    }
}

/// Whether a pod may have a native sidecar, whatever node it comes to.
pub(crate) fn have_native_sidecars(nodes: &[Node]) -> bool {
    !nodes.is_empty() && nodes.iter().all(has_native_sidecars)
}

/// By the version of its kubelet, `v1.33.2-gke.1`.
fn has_native_sidecars(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|it| it.node_info.as_ref());
    let version = info.map(|info| info.kubelet_version.as_str());
    let parts = version.and_then(|version| version.strip_prefix('v')?.split_once('.'));
    parts.is_some_and(|(major, rest)| {
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let minor = &rest[..digits.unwrap_or(rest.len())];
        let version = major.parse().ok().zip(minor.parse().ok());
        version.is_some_and(|version: (u32, u32)| version >= NATIVE_SINCE)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nodes(versions: &[&str]) -> BTreeMap<String, Node> {
        let node = |(n, version): (usize, &&str)| {
            let node = json!({"status": {"nodeInfo": {
                "kubeletVersion": version, "architecture": "", "bootID": "", "kernelVersion": "",
                "containerRuntimeVersion": "", "kubeProxyVersion": "", "machineID": "",
                "operatingSystem": "", "osImage": "", "systemUUID": "",
            }}});
            (
                format!("n{n}"),
                serde_json::from_value(node).expect("a node"),
            )
        };
        versions.iter().enumerate().map(node).collect()
    }

    #[test]
    fn native_sidecars_need_every_node() {
        let check = |versions: &[&str], all: bool| {
            assert_eq!(
                Native::Auto.judge(&nodes(versions)).all,
                all,
                "{versions:?}"
            );
        };
        check(&["v1.33.0"], true);
        check(&["v1.34.1-gke.5", "v2.0.0"], true);
        check(&["v1.33.0", "v1.32.9+k3s1"], false);
        check(&["1.33"], false);
        check(&[], false);
        assert!(Native::Always.judge(&nodes(&["v1.30.0"])).all);
        assert!(!Native::Never.judge(&nodes(&["v1.34.0"])).all);
        let mixed = Native::Auto.judge(&nodes(&["v1.33.0", "v1.32.0"]));
        assert_eq!((mixed.each["n0"], mixed.each["n1"]), (true, false));
        assert_eq!(Native::of("maybe"), None);
    }

    fn config_map(data: &Value) -> BTreeMap<String, ConfigMap> {
        let object = serde_json::from_value(json!({"data": data})).expect("a ConfigMap");
        [("c".to_owned(), object)].into()
    }

    #[test]
    fn the_last_one_that_can_be_read_holds_on() {
        let mut config = Config::new("c".to_owned());
        let none = config.read(&BTreeMap::new()).expect("the default");
        assert_eq!(*none, InjectorConfig::default());
        let good = config.read(&config_map(
            &json!({"config": "policy: disabled", "values": "{}"}),
        ));
        assert_ne!(*good.expect("read"), InjectorConfig::default());
        for bad in [
            json!({"config": "policy: [", "values": "{}"}),
            json!({"config": "", "values": "{"}),
        ] {
            assert_eq!(config.read(&config_map(&bad)), None, "{bad}");
        }
        assert_eq!(config.read(&BTreeMap::new()), None);
    }
}
