//! Operations on one message, and on a list of named ones.

use lateen_api::networking::{FilterClass, PatchOperation};
use lateen_xds::types::listener::{Filter, FilterChain, ListenerFilter, filter, listener_filter};
use lateen_xds::types::network::hcm::{HttpFilter, http_filter};
use lateen_xds::types::route::{Route, VirtualHost};
use lateen_xds::{Any, Lists, NamedMessage, merge};

/// What is done, and with what: the whole message or a part of it; nothing for a removal.
#[derive(Debug)]
pub(super) struct Edit<M> {
    pub(super) operation: PatchOperation,
    pub(super) value: Box<M>,
    pub(super) class: FilterClass,
}

impl<M: NamedMessage> Edit<M> {
    /// Lays the value over a message, or puts it in its place. `false` for other operations.
    pub(super) fn change(&self, message: &mut M) -> Result<bool, String> {
        let lists = match self.operation {
            PatchOperation::Merge => Lists::Append,
            PatchOperation::MergeAndReplaceList => Lists::Replace,
            PatchOperation::Replace => {
                message.clone_from(&self.value);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        merge(message, &self.value, lists).map_err(|error| error.to_string())?;
        Ok(true)
    }

    pub(super) fn adds(&self) -> bool {
        self.operation == PatchOperation::Add
    }

    pub(super) fn removes(&self) -> bool {
        self.operation == PatchOperation::Remove
    }
}

/// A message that stands in a list.
pub(super) trait Item: NamedMessage {
    /// Its configuration, where it has a typed one.
    fn config(&self) -> Option<&Any> {
        None
    }
}

impl Item for FilterChain {}
impl Item for VirtualHost {}
impl Item for Route {}

impl Item for Filter {
    fn config(&self) -> Option<&Any> {
        match self.config_type.as_ref()? {
            filter::ConfigType::TypedConfig(config) => Some(config),
            filter::ConfigType::ConfigDiscovery(_) => None,
        }
    }
}

impl Item for ListenerFilter {
    fn config(&self) -> Option<&Any> {
        match self.config_type.as_ref()? {
            listener_filter::ConfigType::TypedConfig(config) => Some(config),
            listener_filter::ConfigType::ConfigDiscovery(_) => None,
        }
    }
}

impl Item for HttpFilter {
    fn config(&self) -> Option<&Any> {
        match self.config_type.as_ref()? {
            http_filter::ConfigType::TypedConfig(config) => Some(config),
            http_filter::ConfigType::ConfigDiscovery(_) => None,
        }
    }
}

/// Makes a change in a list. `which` says which items are meant, where the patch says it; `end` is
/// where one is added.
pub(super) fn list<M: Item>(
    items: &mut Vec<M>,
    edit: &Edit<M>,
    which: Option<&dyn Fn(&M) -> bool>,
    end: usize,
) -> Result<bool, String> {
    use PatchOperation as Do;
    let value = || M::clone(&edit.value);
    match (edit.operation, which) {
        (Do::Add, _) | (Do::InsertAfter, None) => items.insert(end.min(items.len()), value()),
        (Do::InsertFirst, _) | (Do::InsertBefore, None) => items.insert(0, value()),
        (Do::InsertBefore | Do::InsertAfter, Some(which)) => {
            let Some(at) = items.iter().position(which) else {
                return Ok(false);
            };
            let behind = usize::from(edit.operation == Do::InsertAfter);
            items.insert(at + behind, value());
        }
        (Do::Remove, Some(which)) => {
            let before = items.len();
            items.retain(|item| !which(item));
            return Ok(items.len() < before);
        }
        (Do::Merge | Do::MergeAndReplaceList | Do::Replace, Some(which)) => {
            let mut changed = false;
            for item in items.iter_mut().filter(|item| which(item)) {
                has_one_type(item, edit)?;
                changed |= edit.change(item)?;
            }
            return Ok(changed);
        }
        (operation, None) => {
            return Err(format!(
                "{operation} needs a match that names what is meant"
            ));
        }
        (Do::Invalid, Some(_)) => return Ok(false),
    }
    Ok(true)
}

/// A configuration of another type would take the place of the one that is there, of which the
/// author of a merge believes that it stays.
fn has_one_type<M: Item>(item: &M, edit: &Edit<M>) -> Result<(), String> {
    if edit.operation == PatchOperation::Replace {
        return Ok(());
    }
    match (item.config(), edit.value.config()) {
        (Some(there), Some(more)) if there.type_url != more.type_url => Err(format!(
            "its configuration is of type {}, that of the patch is of type {}",
            there.type_url, more.type_url
        )),
        _ => Ok(()),
    }
}
