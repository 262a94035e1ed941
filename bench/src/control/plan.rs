//! Which meshes are measured.

use clap::ValueEnum;

use super::Options;
use super::mesh::Size;
use super::plane::Options as Mesh;
use super::proxies::Dialect;

/// Why a mesh is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum Part {
    /// Most bars, with all HTTP services on one port
    Main,
    /// The same with services on many ports, so that a route table is a small part
    Ports,
    /// Memory with many services and few proxies
    Memory,
    /// One proxy: what a resource costs, made for the first time and found again
    Single,
    /// The cost of a change against the number of services
    Curve,
}

/// The sizes of a run.
struct Sizes {
    main: Size,
    ports: usize,
    memory: Size,
    curve: &'static [usize],
    curve_proxies: usize,
    changes: usize,
    curve_changes: usize,
    idle: u64,
    limit: u64,
}

const FULL: Sizes = Sizes {
    main: Size {
        services: 1000,
        proxies: 5000,
        ports: 1,
    },
    ports: 50,
    memory: Size {
        services: 10_000,
        proxies: 200,
        ports: 1,
    },
    curve: &[100, 300, 1000, 3000, 10_000],
    curve_proxies: 20,
    changes: 50,
    curve_changes: 10,
    // Two keep-alives of each connection.
    idle: 60,
    limit: 300,
};

const QUICK: Sizes = Sizes {
    main: Size {
        services: 100,
        proxies: 50,
        ports: 1,
    },
    ports: 10,
    memory: Size {
        services: 500,
        proxies: 10,
        ports: 1,
    },
    curve: &[50, 100, 200, 400],
    curve_proxies: 5,
    changes: 10,
    curve_changes: 5,
    idle: 10,
    limit: 30,
};

/// The meshes in the order in which they are measured.
pub(super) fn plan(options: &Options) -> Vec<(Part, Mesh)> {
    let sizes = if options.quick { QUICK } else { FULL };
    let limit = options.limit.unwrap_or(sizes.limit);
    let main = Size {
        services: options.services.unwrap_or(sizes.main.services),
        proxies: options.proxies.unwrap_or(sizes.main.proxies),
        ports: options.ports.unwrap_or(sizes.main.ports),
    };
    let mesh = |size: Size, client| Mesh {
        size,
        client,
        endpoints: 0,
        routes: 0,
        idle: 0,
        reconnect: false,
        limit,
    };
    let all = |size: Size, client| Mesh {
        endpoints: sizes.changes,
        routes: sizes.changes,
        idle: sizes.idle,
        reconnect: true,
        ..mesh(size, client)
    };
    let spread = Size {
        ports: sizes.ports,
        ..main
    };
    let single = Size { proxies: 1, ..main };
    let again = Mesh {
        reconnect: true,
        ..mesh(single, Dialect::Ours)
    };
    let mut plan = vec![
        (Part::Main, all(main, Dialect::Ours)),
        (Part::Main, all(main, Dialect::Envoy)),
        (Part::Ports, all(spread, Dialect::Ours)),
        (Part::Ports, all(spread, Dialect::Envoy)),
        (Part::Memory, mesh(sizes.memory, Dialect::Ours)),
        (Part::Single, again),
    ];
    plan.extend(sizes.curve.iter().map(|services| {
        let size = Size {
            services: *services,
            proxies: sizes.curve_proxies,
            ports: 1,
        };
        let changes = Mesh {
            endpoints: sizes.curve_changes,
            routes: sizes.curve_changes,
            ..mesh(size, Dialect::Ours)
        };
        (Part::Curve, changes)
    }));
    plan.retain(|(part, mesh)| {
        let part = options.only.is_empty() || options.only.contains(part);
        part && (options.client.is_empty() || options.client.contains(&mesh.client))
    });
    plan
}
