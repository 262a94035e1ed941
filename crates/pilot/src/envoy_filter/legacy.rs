//! `filters`, which Istio 1.0 had: filters to insert, with configuration of no written type.

use std::net::IpAddr;

use ipnet::IpNet;
use lateen_api::networking::{
    EnvoyFilterFilter, FilterChainMatch, FilterClass, FilterListenerMatch, FilterListenerProtocol,
    FilterListenerType, FilterMatch, FilterType, InsertIndex, InsertPosition, ListenerMatch,
    PatchContext, PatchOperation, SubFilterMatch,
};
use lateen_xds::names::PREFIX;
use serde_json::{Value, json};

use super::What;
use super::compile::read;
use super::edit::Edit;
use super::names::{self, HCM, Known};
use super::when::{OldListener, When};

/// One of `filters` as a patch.
pub(super) fn compile(of: &EnvoyFilterFilter) -> Result<(When, What), String> {
    let (operation, anchor) = place(of.insert_position.as_ref());
    let known = match of.filter_type {
        FilterType::Http => names::HTTP,
        FilterType::Network => names::NETWORK,
        FilterType::Invalid => return Err("filterType: say HTTP or NETWORK".into()),
    };
    let filter = typed(of, known)?;
    let mut chain = FilterChainMatch::default();
    let what = if of.filter_type == FilterType::Http {
        chain.filter = Some(FilterMatch {
            name: HCM.into(),
            sub_filter: anchor.map(|name| SubFilterMatch { name }),
        });
        What::HttpFilter(edit(operation, filter)?)
    } else {
        chain.filter = anchor.map(|name| FilterMatch {
            name,
            sub_filter: None,
        });
        What::NetworkFilter(edit(operation, filter)?)
    };
    Ok((when(of.listener_match.as_ref(), chain)?, what))
}

fn edit<M: lateen_xds::NamedMessage>(
    operation: PatchOperation,
    filter: Value,
) -> Result<Edit<M>, String> {
    Ok(Edit {
        operation,
        value: Box::new(read(filter)?),
        class: FilterClass::Unspecified,
    })
}

/// Before all others unless it says otherwise.
fn place(of: Option<&InsertPosition>) -> (PatchOperation, Option<String>) {
    let Some(of) = of else {
        return (PatchOperation::InsertFirst, None);
    };
    let relative = || Some(of.relative_to.clone());
    match of.index {
        InsertIndex::First => (PatchOperation::InsertFirst, None),
        InsertIndex::Last => (PatchOperation::Add, None),
        InsertIndex::Before => (PatchOperation::InsertBefore, relative()),
        InsertIndex::After => (PatchOperation::InsertAfter, relative()),
    }
}

/// The filter in today's form: the type of its configuration follows from its name.
fn typed(of: &EnvoyFilterFilter, known: &[Known]) -> Result<Value, String> {
    let mut config = of.filter_config.clone();
    let found = known
        .iter()
        .find(|known| known.old == of.filter_name || known.name == of.filter_name);
    let name = found.map_or(of.filter_name.as_str(), |found| found.name);
    if config.get("@type").is_none() {
        let found = found.ok_or_else(|| {
            format!(
                "filterName: the type of {:?} is not known; write it as filterConfig.@type",
                of.filter_name
            )
        })?;
        let fields = config.as_object_mut();
        let fields = fields.ok_or("filterConfig: write the filter's configuration, or {}")?;
        fields.insert("@type".into(), json!(format!("{PREFIX}{}", found.message)));
    }
    Ok(json!({ "name": name, "typed_config": config }))
}

fn when(of: Option<&FilterListenerMatch>, chain: FilterChainMatch) -> Result<When, String> {
    let listener = |port_number| ListenerMatch {
        port_number,
        filter_chain: Some(chain),
        ..ListenerMatch::default()
    };
    let Some(of) = of else {
        return Ok(When::of_listener(
            PatchContext::Any,
            listener(0),
            OldListener::default(),
        ));
    };
    if !of.port_name_prefix.is_empty() {
        return Err("listenerMatch.portNamePrefix is not supported; use portNumber".into());
    }
    let addresses = of.address.iter().map(|text| {
        let net = text.parse::<IpNet>().ok();
        let ip = || text.parse::<IpAddr>().ok().map(IpNet::from);
        net.or_else(ip)
            .ok_or_else(|| format!("listenerMatch.address: {text:?} is no address"))
    });
    let old = OldListener {
        http: match of.listener_protocol {
            FilterListenerProtocol::All => None,
            FilterListenerProtocol::Http => Some(true),
            FilterListenerProtocol::Tcp => Some(false),
        },
        addresses: addresses.collect::<Result<_, _>>()?,
    };
    let context = match of.listener_type {
        FilterListenerType::Any => PatchContext::Any,
        FilterListenerType::SidecarInbound => PatchContext::SidecarInbound,
        FilterListenerType::SidecarOutbound => PatchContext::SidecarOutbound,
        FilterListenerType::Gateway => PatchContext::Gateway,
    };
    Ok(When::of_listener(context, listener(of.port_number), old))
}
