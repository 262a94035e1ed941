//! Header changes. `host` and `:authority` cannot be changed as headers: setting one is a rewrite.

use lateen_api::networking::HeaderOperations;
use lateen_xds::types::core::header_value_option::HeaderAppendAction;
use lateen_xds::types::core::{HeaderValue, HeaderValueOption};

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn may_change(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(':') && !is_authority(name)
}

/// The authority that a request is given, by `set` before `add`.
pub(super) fn authority(changes: Option<&HeaderOperations>) -> Option<String> {
    let changes = changes?;
    let mut all = changes.set.iter().chain(&changes.add);
    let found = all.find(|(name, _)| is_authority(name));
    found.map(|(_, value)| value.clone())
}

pub(super) fn to_add(changes: Option<&HeaderOperations>) -> Vec<HeaderValueOption> {
    let Some(changes) = changes else {
        return Vec::new();
    };
    let set = changes.set.iter();
    let set = set.map(|change| (change, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = changes.add.iter();
    let add = add.map(|change| (change, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|((name, _), _)| may_change(name))
        .map(|((key, value), action)| HeaderValueOption {
            header: Some(HeaderValue {
                key: key.clone(),
                value: value.clone(),
                ..HeaderValue::default()
            }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        })
        .collect()
}

pub(super) fn to_remove(changes: Option<&HeaderOperations>) -> Vec<String> {
    let names = changes.into_iter().flat_map(|c| &c.remove);
    names.filter(|name| may_change(name)).cloned().collect()
}
