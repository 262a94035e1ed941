//! Patches of listeners and of what is in them.

use lateen_api::networking::{FilterClass, PatchContext};
use lateen_xds::names::RouteName;
use lateen_xds::types::listener::{Filter, FilterChain, Listener, ListenerFilter, filter};
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::types::network::hcm::{HttpConnectionManager, HttpFilter};
use lateen_xds::{decode_any, pack_any};

use super::edit::{self, Edit};
use super::names::{HCM, ROUTER};
use super::when::{Table, When};
use super::{Patch, Patches, What};

fn itself(what: &What) -> Option<&Edit<Listener>> {
    match what {
        What::Listener(edit) => Some(edit),
        _ => None,
    }
}

impl Patches {
    /// Whether any patch may change a listener, of which name and address are enough.
    pub(super) fn change_listener(&self, context: PatchContext, listener: &Listener) -> bool {
        let inline = context == PatchContext::SidecarInbound;
        let mut patches = self.list.iter().filter(|patch| patch.when.is_in(context));
        patches.any(|patch| {
            let stage = STAGES.iter().find(|stage| stage.is_of(&patch.what));
            match stage {
                None => false,
                Some(Stage::InlineRoutes) => inline,
                Some(stage) => {
                    let itself = *stage == Stage::Itself;
                    patch.when.holds_for_listener(listener, itself)
                }
            }
        })
    }

    /// Whether a patch takes a listener out.
    pub(super) fn remove_listener(&self, context: PatchContext, listener: &Listener) -> bool {
        let mut all = self.of(context, itself);
        let found = all
            .find(|(patch, edit)| edit.removes() && patch.when.holds_for_listener(listener, true));
        if let Some((patch, _)) = found {
            patch.done(&listener.name, Ok(true));
        }
        found.is_some()
    }

    pub(super) fn listener(&self, context: PatchContext, mut listener: Listener) -> Listener {
        let name = format!("listener {}", listener.name);
        for stage in STAGES {
            let patches = self.list.iter().filter(|patch| stage.is_of(&patch.what));
            for patch in patches.filter(|patch| patch.when.is_in(context)) {
                let reads = |listener: &_| lateen_decode::listener(listener).map(drop);
                let change = |listener: &mut _| stage.change(patch, listener);
                self.attempt((patch, &name), &mut listener, reads, change);
            }
        }
        listener
    }
}

/// From the outside in, but that new chains come last: what patches say of filters is for the
/// chains of the mesh.
const STAGES: [Stage; 7] = [
    Stage::Itself,
    Stage::ListenerFilters,
    Stage::Chains,
    Stage::NetworkFilters,
    Stage::HttpFilters,
    Stage::InlineRoutes,
    Stage::NewChains,
];

/// What of a listener is patched at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Itself,
    ListenerFilters,
    Chains,
    NetworkFilters,
    HttpFilters,
    InlineRoutes,
    NewChains,
}

impl Stage {
    fn is_of(self, what: &What) -> bool {
        match what {
            What::Listener(edit) => self == Stage::Itself && !edit.adds() && !edit.removes(),
            What::ListenerFilter(_) => self == Stage::ListenerFilters,
            What::FilterChain(edit) if edit.adds() => self == Stage::NewChains,
            What::FilterChain(_) => self == Stage::Chains,
            What::NetworkFilter(_) => self == Stage::NetworkFilters,
            What::HttpFilter(_) => self == Stage::HttpFilters,
            What::Routes(_) | What::VirtualHost(_) | What::Route(_) => self == Stage::InlineRoutes,
            What::Cluster(_) | What::Extension(_) | What::Bootstrap(_) => false,
        }
    }

    fn change(self, patch: &Patch, listener: &mut Listener) -> Result<bool, String> {
        let when = &patch.when;
        if self != Stage::InlineRoutes && !when.holds_for_listener(listener, self == Stage::Itself)
        {
            return Ok(false);
        }
        match &patch.what {
            What::Listener(edit) => edit.change(listener),
            What::ListenerFilter(edit) => {
                let wanted = when.listener_filter();
                let is_wanted = |filter: &ListenerFilter| wanted == Some(&filter.name);
                let which = wanted
                    .is_some()
                    .then_some(&is_wanted as &dyn Fn(&_) -> bool);
                let end = listener.listener_filters.len();
                edit::list(&mut listener.listener_filters, edit, which, end)
            }
            What::FilterChain(edit) if edit.adds() => {
                listener.filter_chains.push(FilterChain::clone(&edit.value));
                Ok(true)
            }
            What::FilterChain(edit) if edit.removes() => remove_chains(listener, when),
            What::FilterChain(edit) => each_chain(listener, when, |chain| edit.change(chain)),
            What::NetworkFilter(edit) => {
                each_chain(listener, when, |chain| network(chain, when, edit))
            }
            What::HttpFilter(edit) => {
                if when.network_filter().is_some_and(|name| name != HCM) {
                    return Ok(false);
                }
                each_chain(listener, when, |chain| {
                    each_manager(chain, |manager| http(manager, when, edit))
                })
            }
            _ => each_chain(listener, &When::default(), |chain| {
                each_manager(chain, |manager| inline_routes(manager, patch))
            }),
        }
    }
}

/// Changes the chains that are meant, also the one for what no other takes.
fn each_chain(
    listener: &mut Listener,
    when: &When,
    change: impl Fn(&mut FilterChain) -> Result<bool, String>,
) -> Result<bool, String> {
    let chains = listener.filter_chains.iter_mut();
    let mut changed = false;
    for chain in chains.chain(&mut listener.default_filter_chain) {
        if when.holds_for_chain(&listener.name, chain) {
            changed |= change(chain).map_err(|why| match chain.name.as_str() {
                "" => why,
                name => format!("filter chain {name}: {why}"),
            })?;
        }
    }
    Ok(changed)
}

fn remove_chains(listener: &mut Listener, when: &When) -> Result<bool, String> {
    let name = listener.name.clone();
    let stays = |chain: &FilterChain| !when.holds_for_chain(&name, chain);
    let n_chains = listener.filter_chains.len();
    let had_rest = listener.default_filter_chain.is_some();
    listener.filter_chains.retain(stays);
    listener.default_filter_chain = listener.default_filter_chain.take().filter(stays);
    let has_rest = listener.default_filter_chain.is_some();
    if listener.filter_chains.is_empty() && !has_rest {
        return Err("it would be left without a filter chain, which Envoy refuses".into());
    }
    Ok(listener.filter_chains.len() < n_chains || had_rest != has_rest)
}

/// Changes the HTTP connection managers of a chain.
fn each_manager(
    chain: &mut FilterChain,
    change: impl Fn(&mut HttpConnectionManager) -> Result<bool, String>,
) -> Result<bool, String> {
    let mut changed = false;
    for filter in chain.filters.iter_mut().filter(|f| f.name == HCM) {
        let Some(filter::ConfigType::TypedConfig(config)) = &mut filter.config_type else {
            continue;
        };
        let mut manager = decode_any(config).map_err(|error| error.to_string())?;
        if change(&mut manager)? {
            *config = pack_any(&manager);
            changed = true;
        }
    }
    Ok(changed)
}

/// Route tables of inbound listeners are written into them.
fn inline_routes(manager: &mut HttpConnectionManager, patch: &Patch) -> Result<bool, String> {
    let Some(RouteSpecifier::RouteConfig(table)) = &mut manager.route_specifier else {
        return Ok(false);
    };
    let port = match RouteName::parse(&table.name) {
        Some(RouteName::Inbound(port)) => Some(port),
        _ => None,
    };
    let facts = Table {
        port,
        ..Table::default()
    };
    super::route::change(patch, &facts, table)
}

fn network(chain: &mut FilterChain, when: &When, edit: &Edit<Filter>) -> Result<bool, String> {
    let wanted = when.network_filter();
    let is_wanted = |filter: &Filter| wanted == Some(&filter.name);
    let which = wanted
        .is_some()
        .then_some(&is_wanted as &dyn Fn(&_) -> bool);
    let end = chain.filters.len();
    edit::list(&mut chain.filters, edit, which, end)
}

fn http(
    manager: &mut HttpConnectionManager,
    when: &When,
    edit: &Edit<HttpFilter>,
) -> Result<bool, String> {
    let wanted = when.http_filter();
    let is_wanted = |filter: &HttpFilter| wanted == Some(&filter.name);
    let which = wanted
        .is_some()
        .then_some(&is_wanted as &dyn Fn(&_) -> bool);
    let end = place(&manager.http_filters, edit.class);
    edit::list(&mut manager.http_filters, edit, which, end)
}

const AUTHENTICATE: [&str; 2] = ["envoy.filters.http.jwt_authn", "istio_authn"];
const AUTHORIZE: [&str; 2] = ["envoy.filters.http.ext_authz", "envoy.filters.http.rbac"];
const COUNT: &str = "istio.stats";

/// Where among the mesh's filters one of a class is added. Envoy refuses one behind the router.
fn place(filters: &[HttpFilter], class: FilterClass) -> usize {
    let behind = |names: &[&[&str]]| {
        let of = |filter: &HttpFilter| names.iter().any(|n| n.contains(&filter.name.as_str()));
        filters.iter().rposition(of).map_or(0, |at| at + 1)
    };
    let before = |name: &str| filters.iter().position(|filter| filter.name == name);
    let end = || before(ROUTER).unwrap_or(filters.len());
    match class {
        FilterClass::Authn => behind(&[&AUTHENTICATE]),
        FilterClass::Authz => behind(&[&AUTHENTICATE, &AUTHORIZE]),
        FilterClass::Stats => before(COUNT).unwrap_or_else(end),
        FilterClass::Unspecified => end(),
    }
}
