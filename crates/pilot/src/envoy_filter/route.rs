//! Patches of route tables and of what is in them.

use std::collections::HashSet;

use lateen_api::networking::{PatchContext, PatchOperation};
use lateen_xds::types::route::{Route, RouteConfiguration, VirtualHost};

use super::edit::{self, Edit};
use super::when::{Table, When, is_route};
use super::{Patch, Patches, What};

impl Patches {
    /// Whether any patch is for route tables of a context.
    pub(super) fn change_routes(&self, context: PatchContext) -> bool {
        let mut patches = self.list.iter().filter(|patch| patch.when.is_in(context));
        patches.any(|patch| STAGES.iter().any(|stage| stage.is_of(&patch.what)))
    }

    pub(super) fn routes(
        &self,
        context: PatchContext,
        facts: &Table<'_>,
        mut table: RouteConfiguration,
    ) -> RouteConfiguration {
        let name = format!("route table {}", table.name);
        for stage in STAGES {
            let patches = self.list.iter().filter(|patch| stage.is_of(&patch.what));
            for patch in patches.filter(|patch| patch.when.is_in(context)) {
                let reads = |table: &_| lateen_decode::route_configuration(table).map(drop);
                let change = |table: &mut _| change(patch, facts, table);
                self.attempt((patch, &name), &mut table, reads, change);
            }
        }
        table
    }
}

/// From the outside in, but that new hosts come last: what patches say of routes is for the hosts
/// of the mesh.
const STAGES: [Stage; 4] = [Stage::Itself, Stage::Hosts, Stage::Routes, Stage::NewHosts];

/// What of a table is patched at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Itself,
    Hosts,
    Routes,
    NewHosts,
}

impl Stage {
    fn is_of(self, what: &What) -> bool {
        match what {
            What::Routes(_) => self == Stage::Itself,
            What::VirtualHost(edit) if edit.adds() => self == Stage::NewHosts,
            What::VirtualHost(_) => self == Stage::Hosts,
            What::Route(_) => self == Stage::Routes,
            _ => false,
        }
    }
}

/// Makes a patch of tables, where it is for this one.
pub(super) fn change(
    patch: &Patch,
    facts: &Table<'_>,
    table: &mut RouteConfiguration,
) -> Result<bool, String> {
    let when = &patch.when;
    if !when.holds_for_table(&table.name, facts)? {
        return Ok(false);
    }
    match &patch.what {
        What::Routes(edit) => edit.change(table),
        What::VirtualHost(edit) if edit.adds() => add_host(&mut table.virtual_hosts, &edit.value),
        What::VirtualHost(edit) => hosts(&mut table.virtual_hosts, when, edit),
        What::Route(edit) => {
            let mut changed = false;
            for host in &mut table.virtual_hosts {
                if when.holds_for_host(host) {
                    let name = host.name.clone();
                    changed |= routes(host, when, edit)
                        .map_err(|why| format!("virtual host {name}: {why}"))?;
                }
            }
            Ok(changed)
        }
        _ => Ok(false),
    }
}

fn hosts(
    hosts: &mut Vec<VirtualHost>,
    when: &When,
    edit: &Edit<VirtualHost>,
) -> Result<bool, String> {
    let is_meant = |host: &VirtualHost| when.holds_for_host(host);
    edit::list(hosts, edit, Some(&is_meant), 0)
}

/// A table in which a domain or a name occurs twice is refused as a whole.
fn add_host(hosts: &mut Vec<VirtualHost>, more: &VirtualHost) -> Result<bool, String> {
    if hosts.iter().any(|host| host.name == more.name) {
        return Err(format!("there is a virtual host {:?} already", more.name));
    }
    let taken: HashSet<_> = hosts.iter().flat_map(|host| &host.domains).collect();
    if let Some(domain) = more.domains.iter().find(|domain| taken.contains(domain)) {
        return Err(format!("another virtual host has the domain {domain:?}"));
    }
    hosts.push(more.clone());
    Ok(true)
}

/// Without a match, all routes of the host are meant.
fn routes(host: &mut VirtualHost, when: &When, edit: &Edit<Route>) -> Result<bool, String> {
    let wanted = when.route();
    let is_meant = |found: &Route| wanted.is_none_or(|wanted| is_route(wanted, found));
    let inserts = matches!(
        edit.operation,
        PatchOperation::InsertBefore | PatchOperation::InsertAfter
    );
    let which = (wanted.is_some() || !inserts).then_some(&is_meant as &dyn Fn(&_) -> bool);
    let end = host.routes.len();
    edit::list(&mut host.routes, edit, which, end)
}
