//! What addresses hosts of ServiceEntries were given, in the status of their entries: people see them
//! there, and whoever was told of one keeps it.

use std::{collections::BTreeSet, sync::Arc};

use lateen_api::kinds;
use lateen_core::{Hostname, ObjectRef, ServiceId};
use lateen_registry::{
    Provider, RawConfig, Registry, Service, StatusOwner, StatusTarget, StatusWriter, WantedStatus,
    World,
};
use serde_json::{Value, json};
use tokio::sync::watch;

const OWNER: StatusOwner = StatusOwner {
    name: "addresses",
    conditions: &[],
    controller: "",
};

/// Carries addresses from the world to the writer.
pub(in crate::discovery) struct Addresses {
    raw: watch::Receiver<Arc<RawConfig>>,
    world: watch::Receiver<Arc<World>>,
    writer: StatusWriter,
    seen: Arc<World>,
    /// Entries whose status has addresses of ours, or is to have them.
    told: BTreeSet<ObjectRef>,
}

impl Addresses {
    pub(in crate::discovery) fn new(registry: &Registry, writer: StatusWriter) -> Self {
        Addresses {
            raw: registry.config(),
            world: registry.world(),
            writer,
            seen: Arc::default(),
            told: BTreeSet::new(),
        }
    }

    /// Until the registry ends.
    pub(in crate::discovery) async fn run(mut self) {
        loop {
            self.look();
            // An entry that changes without its services changing has the addresses that it had.
            if self.world.changed().await.is_err() {
                return;
            }
        }
    }

    fn look(&mut self) {
        let world = self.world.borrow_and_update().clone();
        let seen = std::mem::replace(&mut self.seen, world.clone());
        let of = |world: &World, id: &ServiceId| world.services.get(id).and_then(|s| entry_of(s));
        let changed = world.services.changed(&seen.services).into_iter();
        let entries: BTreeSet<_> = changed
            .flat_map(|id| [of(&seen, &id), of(&world, &id)])
            .flatten()
            .collect();
        let raw = self.raw.borrow().clone();
        for entry in entries {
            self.say(&world, &raw, entry);
        }
    }

    fn say(&mut self, world: &World, raw: &RawConfig, entry: ObjectRef) {
        let target = StatusTarget::new(&kinds::SERVICE_ENTRY, &entry.namespace, &entry.name);
        let Some(document) = raw.objects.get(&entry) else {
            self.told.remove(&entry);
            return self.writer.forget(OWNER, &target);
        };
        let addresses = addresses(world, &entry, document);
        let has_some = document["status"]["addresses"].is_array();
        if addresses.is_empty() && !has_some && !self.told.contains(&entry) {
            return;
        }
        let status = json!({"addresses": match addresses.is_empty() {
            true => Value::Null,
            false => Value::from(addresses),
        }});
        self.told.insert(entry);
        // They follow from the hosts, of whatever generation the rest is.
        let wanted = WantedStatus {
            generation: 0,
            status,
        };
        self.writer.set(OWNER, target, wanted);
    }
}

/// The ServiceEntry that a service has its addresses by: the oldest that declares it.
fn entry_of(service: &Service) -> Option<ObjectRef> {
    (service.provider == Provider::ServiceEntry).then(|| ObjectRef {
        kind: kinds::SERVICE_ENTRY.kind,
        namespace: service.namespace.clone(),
        name: service.name.as_str().into(),
    })
}

fn addresses(world: &World, entry: &ObjectRef, document: &Value) -> Vec<Value> {
    let hosts = document["spec"]["hosts"].as_array().into_iter().flatten();
    let of_host = |host: &Value| {
        let host = host.as_str()?;
        let id = ServiceId::new(&entry.namespace, Hostname::new(host));
        let service = world.services.get(&id)?;
        let own = entry_of(service).as_ref() == Some(entry);
        let each = |ip| json!({"value": format!("{ip}"), "host": host});
        own.then(|| service.allocated.iter().map(each).collect::<Vec<_>>())
    };
    hosts.filter_map(of_host).flatten().collect()
}
