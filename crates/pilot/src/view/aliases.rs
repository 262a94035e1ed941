//! Names that stand for services of other names: ExternalName services.

use std::collections::HashMap;
use std::sync::Arc;

use lateen_core::Hostname;
use lateen_registry::Service;

use super::View;

impl<'a> View<'a> {
    /// The service that an ExternalName service is another name of.
    pub(super) fn meant_by(self, service: &'a Service) -> Option<&'a Arc<Service>> {
        self.snapshot.meant_by(service, &self.from.namespace)
    }

    /// What a service stands for, or itself.
    pub(super) fn meant(self, service: &'a Arc<Service>) -> &'a Arc<Service> {
        self.meant_by(service).unwrap_or(service)
    }

    /// Names that are seen, by the services that they stand for.
    pub(super) fn aliases(self) -> HashMap<&'a Hostname, Vec<&'a Arc<Service>>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for alias in self.snapshot.aliases() {
            let named = self.service(&alias.hostname);
            let is_seen = named.is_some_and(|named| Arc::ptr_eq(named, alias));
            if let Some(meant) = self.meant_by(alias)
                && is_seen
                && self.lets_service(alias)
            {
                found.entry(&meant.hostname).or_default().push(alias);
            }
        }
        found
    }

    /// Services with those in the place of names that stand for them, each once.
    pub(super) fn without_aliases(self, services: Vec<&'a Arc<Service>>) -> Vec<&'a Arc<Service>> {
        if self.snapshot.aliases().is_empty() {
            return services;
        }
        let mut services: Vec<_> = services.into_iter().map(|of| self.meant(of)).collect();
        services.sort_by_key(|s| (s.created.is_none(), s.created, &s.hostname));
        services.dedup_by(|a, b| a.hostname == b.hostname);
        services
    }
}
