//! Objects that follow from those of the Gateway API and from Ingresses, beside what users wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lateen_api::{
    Object,
    gateway_api::GatewayDeployment,
    networking::{DestinationRule, Gateway, VirtualService},
};
use lateen_core::{ObjectRef, Problem};

use crate::{ConfigSet, Granted, Said, galley::add, gateway_api::Translation};

/// What follows from objects of the Gateway API and from Ingresses beside configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayState {
    /// What is said of each object.
    pub statuses: BTreeMap<ObjectRef, Said>,
    /// Gateways that the mesh runs.
    pub deployments: Vec<GatewayDeployment>,
    /// Secrets that proxies may have although they are in another namespace.
    pub granted: BTreeSet<Granted>,
    /// What is wrong with Ingresses, whose status has no place for it: the log tells it.
    pub problems: Vec<Problem>,
}

type Kept<T> = BTreeMap<(String, String), Arc<Object<T>>>;

/// All that follows. What is equal keeps its allocation, so that only changes are pushed.
#[derive(Debug, Default)]
pub(crate) struct Generated {
    gateways: Kept<Gateway>,
    virtual_services: Kept<VirtualService>,
    destination_rules: Kept<DestinationRule>,
    pub(crate) state: GatewayState,
}

/// What the last step made different.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Regenerated {
    pub(crate) objects: bool,
    pub(crate) state: bool,
}

impl Generated {
    pub(crate) fn replace(&mut self, new: Translation) -> Regenerated {
        let Translation {
            gateways,
            virtual_services,
            destination_rules,
            statuses,
            deployments,
            granted,
            problems,
        } = new;
        self.tell(&problems);
        let state = GatewayState {
            statuses,
            deployments,
            granted,
            problems,
        };
        let changed = Regenerated {
            objects: replace(&mut self.gateways, gateways)
                | replace(&mut self.virtual_services, virtual_services)
                | replace(&mut self.destination_rules, destination_rules),
            state: self.state != state,
        };
        self.state = state;
        changed
    }

    /// Each problem is told once, when it comes up.
    fn tell(&self, problems: &[Problem]) {
        let known = &self.state.problems;
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            let Problem {
                on, field, text, ..
            } = problem;
            tracing::warn!(object = %on, %field, "a part of an object leads nowhere: {text}");
        }
    }

    pub(crate) fn add_to(&self, set: &mut ConfigSet) {
        for object in self.gateways.values() {
            add(&mut set.gateways, object.clone());
        }
        for object in self.virtual_services.values() {
            add(&mut set.virtual_services, object.clone());
        }
        for object in self.destination_rules.values() {
            add(&mut set.destination_rules, object.clone());
        }
    }
}

fn replace<T: PartialEq>(held: &mut Kept<T>, new: Vec<Object<T>>) -> bool {
    let mut before = std::mem::take(held);
    let mut changed = false;
    for object in new {
        let name = (object.meta.namespace.clone(), object.meta.name.clone());
        let object = match before.remove(&name) {
            Some(same) if *same == object => same,
            _ => {
                changed = true;
                Arc::new(object)
            }
        };
        held.insert(name, object);
    }
    changed || !before.is_empty()
}
