//! The table of names that agents answer.

use std::sync::Arc;

use lateen_xds::TypeUrl;
use lateen_xds::server::Resource;
use prost::Message;

use super::Making;
use crate::engine::state::State;
use crate::view::View;

/// The one resource of its type, for those beside whom the mesh resolves names.
#[derive(Clone)]
pub(in crate::engine) struct NameList {
    pub(in crate::engine) state: State,
    pub(in crate::engine) resource: Arc<Resource>,
}

impl NameList {
    pub(super) fn new(making: Making<'_>) -> Option<NameList> {
        let resolves = making.vantage.connectivity.resolves;
        let resource = resolves.then(|| made(making)).flatten()?;
        Some(NameList {
            state: State::new(),
            resource,
        })
    }

    pub(super) fn next(&self, making: Making<'_>) -> NameList {
        if !making.touched.names(making.view()) {
            return self.clone();
        }
        match made(making) {
            Some(resource) if *resource != *self.resource => NameList {
                state: self.state.then(vec![resource.name.clone()]),
                resource,
            },
            _ => self.clone(),
        }
    }
}

fn made(making: Making<'_>) -> Option<Arc<Resource>> {
    let table = making.look("names", View::name_table)?;
    let bytes = table.encode_to_vec();
    let resource = Resource::of_bytes("", TypeUrl::NAME_TABLE.as_str(), &bytes);
    Some(Arc::new(resource))
}
