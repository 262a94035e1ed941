//! All valid configuration at one moment.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use lateen_api::{
    Kind, Meta, Object, kinds,
    mesh::MeshConfig,
    mesh_networks::MeshNetworks,
    networking::{
        DestinationRule, EnvoyFilter, Gateway, ProxyConfig, ServiceEntry, Sidecar, VirtualService,
        WorkloadEntry,
    },
    security::PeerAuthentication,
};
use lateen_core::ObjectRef;
use lateen_registry::Changes;

/// All valid configuration at one moment, each list sorted by age, then namespace, then name: where
/// two objects compete, the earlier in the list wins. Unchanged objects are shared between sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigSet {
    /// VirtualServices.
    pub virtual_services: Vec<Arc<Object<VirtualService>>>,
    /// DestinationRules.
    pub destination_rules: Vec<Arc<Object<DestinationRule>>>,
    /// Gateways.
    pub gateways: Vec<Arc<Object<Gateway>>>,
    /// ServiceEntries; the registry has already made services of them.
    pub service_entries: Vec<Arc<Object<ServiceEntry>>>,
    /// WorkloadEntries; the registry has already made workloads of them.
    pub workload_entries: Vec<Arc<Object<WorkloadEntry>>>,
    /// Sidecars.
    pub sidecars: Vec<Arc<Object<Sidecar>>>,
    /// PeerAuthentications.
    pub peer_authentications: Vec<Arc<Object<PeerAuthentication>>>,
    /// EnvoyFilters.
    pub envoy_filters: Vec<Arc<Object<EnvoyFilter>>>,
    /// ProxyConfigs; the injector acts on them.
    pub proxy_configs: Vec<Arc<Object<ProxyConfig>>>,
    /// What holds for the whole mesh.
    pub mesh: Arc<MeshConfig>,
    /// Networks of the mesh, as far as they are not labels.
    pub networks: Arc<MeshNetworks>,
}

impl ConfigSet {
    /// Whose objects these are, kind by kind.
    pub fn metas(&self) -> impl Iterator<Item = (&'static str, &Meta)> {
        // Destructured, so that a list that is added cannot be forgotten here.
        let ConfigSet {
            virtual_services,
            destination_rules,
            gateways,
            service_entries,
            workload_entries,
            sidecars,
            peer_authentications,
            envoy_filters,
            // Pods are made by them; no proxy is sent anything of them.
            proxy_configs: _,
            mesh: _,
            networks: _,
        } = self;
        fn of<T>(
            kind: Kind,
            list: &[Arc<Object<T>>],
        ) -> impl Iterator<Item = (&'static str, &Meta)> {
            list.iter().map(move |object| (kind.kind, &object.meta))
        }
        of(kinds::VIRTUAL_SERVICE, virtual_services)
            .chain(of(kinds::DESTINATION_RULE, destination_rules))
            .chain(of(kinds::GATEWAY, gateways))
            .chain(of(kinds::SERVICE_ENTRY, service_entries))
            .chain(of(kinds::WORKLOAD_ENTRY, workload_entries))
            .chain(of(kinds::SIDECAR, sidecars))
            .chain(of(kinds::PEER_AUTHENTICATION, peer_authentications))
            .chain(of(kinds::ENVOY_FILTER, envoy_filters))
    }
}

/// Names what is different between two sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigChanges {
    /// Objects that are new, different or gone.
    pub objects: BTreeSet<ObjectRef>,
    /// What holds for the whole mesh is another.
    pub mesh: bool,
}

impl ConfigChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && !self.mesh
    }

    /// Makes this the union of both.
    pub fn merge(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.mesh |= other.mesh;
    }
}

impl Changes for ConfigSet {
    type Changes = ConfigChanges;

    /// By allocation: an object that was read anew counts even where it says the same. Where objects
    /// stand follows from what they say, so it is not compared.
    fn since(&self, earlier: &Self) -> ConfigChanges {
        // Destructured, so that a list that is added cannot be forgotten here.
        let ConfigSet {
            virtual_services,
            destination_rules,
            gateways,
            service_entries,
            workload_entries,
            sidecars,
            peer_authentications,
            envoy_filters,
            proxy_configs,
            mesh,
            networks,
        } = self;
        let mut objects = BTreeSet::new();
        let found = &mut objects;
        let old = earlier;
        differ(
            kinds::VIRTUAL_SERVICE,
            &old.virtual_services,
            virtual_services,
            found,
        );
        differ(
            kinds::DESTINATION_RULE,
            &old.destination_rules,
            destination_rules,
            found,
        );
        differ(kinds::GATEWAY, &old.gateways, gateways, found);
        differ(
            kinds::SERVICE_ENTRY,
            &old.service_entries,
            service_entries,
            found,
        );
        differ(
            kinds::WORKLOAD_ENTRY,
            &old.workload_entries,
            workload_entries,
            found,
        );
        differ(kinds::SIDECAR, &old.sidecars, sidecars, found);
        let policies = peer_authentications;
        differ(
            kinds::PEER_AUTHENTICATION,
            &old.peer_authentications,
            policies,
            found,
        );
        differ(
            kinds::ENVOY_FILTER,
            &old.envoy_filters,
            envoy_filters,
            found,
        );
        differ(
            kinds::PROXY_CONFIG,
            &old.proxy_configs,
            proxy_configs,
            found,
        );
        ConfigChanges {
            objects,
            mesh: (!Arc::ptr_eq(mesh, &earlier.mesh) && *mesh != earlier.mesh)
                || *networks != earlier.networks,
        }
    }
}

/// Finds the objects that stand in one list only. Most often all is the same up to one place and
/// behind it, so only what lies between is looked at closely.
fn differ<T>(
    kind: Kind,
    old: &[Arc<Object<T>>],
    new: &[Arc<Object<T>>],
    found: &mut BTreeSet<ObjectRef>,
) {
    let same = |(a, b): &(&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
    let before = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[before..], &new[before..]);
    let behind = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(same)
        .count();
    let (old, new) = (&old[..old.len() - behind], &new[..new.len() - behind]);
    let in_old: HashSet<_> = old.iter().map(Arc::as_ptr).collect();
    let in_new: HashSet<_> = new.iter().map(Arc::as_ptr).collect();
    let gone = old.iter().filter(|o| !in_new.contains(&Arc::as_ptr(o)));
    let fresh = new.iter().filter(|o| !in_old.contains(&Arc::as_ptr(o)));
    let name = |o: &Arc<Object<T>>| ObjectRef::new(kind.kind, &o.meta.namespace, &o.meta.name);
    found.extend(gone.chain(fresh).map(name));
}
