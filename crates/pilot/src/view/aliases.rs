//! Names that stand for services of other names: ExternalName services.

use std::sync::Arc;

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

    /// Other names of a service that are seen.
    pub(super) fn aliases_of(self, service: &Service) -> Vec<&'a Arc<Service>> {
        let all = self.snapshot.aliases().iter();
        let seen = all.filter(|alias| {
            let named = self.service(&alias.hostname);
            named.is_some_and(|named| Arc::ptr_eq(named, alias)) && self.lets_service(alias)
        });
        seen.filter(|alias| self.meant_by(alias).is_some_and(|of| **of == *service))
            .collect()
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
