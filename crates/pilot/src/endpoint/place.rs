//! Which endpoints come first, and with what shares, for a client in one place.

use std::sync::LazyLock;

use arcstr::ArcStr;
use lateen_api::labels;
use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{LocalityFailover, LocalityLbSetting, ZoneAwareLbSetting};
use lateen_core::{Labels, Locality};
use lateen_registry::{Endpoint, TrafficDistribution};
use lateen_xds::types::endpoint::LocalityLbEndpoints;

use crate::policy::Policy;
use crate::wire;

/// The setting of a mesh that has none.
static DEFAULT: LocalityLbSetting = LocalityLbSetting {
    distribute: Vec::new(),
    failover: Vec::new(),
    failover_priority: Vec::new(),
    enabled: None,
};

/// The settings of services that prefer near endpoints. They need no outlier detection: endpoints
/// further away are for when there are no nearer ones.
static SAME_ZONE: LazyLock<LocalityLbSetting> = LazyLock::new(|| by_labels(&PLACES));
static SAME_NODE: LazyLock<LocalityLbSetting> = LazyLock::new(|| {
    let node = [labels::HOSTNAME];
    by_labels(&[&PLACES[..], &node].concat())
});

/// From the widest to the narrowest.
const PLACES: [&str; 4] = [
    labels::NETWORK,
    labels::REGION,
    labels::ZONE,
    labels::SUBZONE,
];

fn by_labels(labels: &[&str]) -> LocalityLbSetting {
    LocalityLbSetting {
        failover_priority: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..LocalityLbSetting::default()
    }
}

/// Whether it is one of those that services have.
pub(crate) fn is_of_service(setting: &LocalityLbSetting) -> bool {
    std::ptr::eq(setting, &*SAME_ZONE) || std::ptr::eq(setting, &*SAME_NODE)
}

/// Distances between two places: the same sub-zone, zone, region; another region that is to take
/// over; any other.
const DISTANCES: usize = 5;

/// How the client's place decides who serves it. It has those parts of the client alone that the
/// setting asks for, so that clients which it does not tell apart share their endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Placement {
    /// Shares of places, by patterns; other places get nothing.
    Shares(Vec<(String, u32)>),
    /// One priority after the other.
    Priorities {
        /// Labels to compare and the values that come first. The first that differs decides.
        labels: Vec<(String, String)>,
        /// How places count after the labels, where they do.
        near: Option<Near>,
    },
}

/// Where the client is, as far as it counts, and the region that takes over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Near {
    /// One place after the other.
    Place(Locality, Option<String>),
    /// One region after the other; the proxy itself divides among the zones of one.
    Region(ArcStr, Option<String>),
}

/// The settings of one level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Setting<'a> {
    /// By place.
    Locality(&'a LocalityLbSetting),
    /// By zone, with spill-over.
    Zones(&'a ZoneAwareLbSetting),
}

/// The setting that holds: the rule's, else the service's, else the mesh's; none where that by place is
/// switched off. One by zones counts for more than one by place of the same level, also where it is
/// switched off: proxies must be told that then.
pub(crate) fn setting<'a>(
    policy: &Policy<'a>,
    service: Option<TrafficDistribution>,
    mesh: &'a MeshConfig,
) -> Option<Setting<'a>> {
    let of_level = |zones: Option<&'a ZoneAwareLbSetting>,
                    places: Option<&'a LocalityLbSetting>| {
        zones.map(Setting::Zones).or(places.map(Setting::Locality))
    };
    let of_rule = policy.load_balancer.and_then(|balancer| {
        of_level(
            balancer.zone_aware_lb_setting.as_ref(),
            balancer.locality_lb_setting.as_ref(),
        )
    });
    let of_service = service.map(|wish| match wish {
        TrafficDistribution::SameZone => &*SAME_ZONE,
        TrafficDistribution::SameNode => &*SAME_NODE,
    });
    let of_mesh = of_level(
        mesh.zone_aware_lb_setting.as_ref(),
        mesh.locality_lb_setting.as_ref(),
    );
    let setting = of_rule.or(of_service.map(Setting::Locality)).or(of_mesh);
    match setting.unwrap_or(Setting::Locality(&DEFAULT)) {
        Setting::Locality(setting) if setting.enabled == Some(false) => None,
        setting => Some(setting),
    }
}

impl Placement {
    /// What a setting by zones means for a client: endpoints of its own region come first, whether or
    /// not anybody finds out which ones fail. What is not of one priority is not divided by zones.
    pub(crate) fn by_zones(setting: &ZoneAwareLbSetting, client: &Client<'_>) -> Option<Self> {
        if setting.enabled == Some(false) {
            return None;
        }
        let labels = client.asked(&setting.failover_priority);
        let near = client.region().map(|region| {
            let next = next_region(&setting.failover, region);
            Near::Region(region.clone(), next)
        });
        Placement::by_priorities(labels, near)
    }

    /// What a setting by place means for a client. Going on to another priority needs outlier
    /// detection, by which the nearer hosts are found to fail, or the wish of the service.
    pub(crate) fn of(
        setting: &LocalityLbSetting,
        client: &Client<'_>,
        goes_on: bool,
    ) -> Option<Self> {
        if !setting.distribute.is_empty() {
            let mut rules = setting.distribute.iter();
            let rule = rules.find(|rule| covers(&rule.from, client.locality))?;
            let shares = rule.to.iter().map(|(to, share)| (to.clone(), *share));
            return Some(Placement::Shares(shares.collect()));
        }
        if !goes_on {
            return None;
        }
        let labels = client.asked(&setting.failover_priority);
        // Places count after labels only where that is asked for.
        let by_place = labels.is_empty() || !setting.failover.is_empty();
        let region = client.region().filter(|_| by_place);
        let near = region.map(|region| {
            let next = next_region(&setting.failover, region);
            Near::Place(client.locality.clone(), next)
        });
        Placement::by_priorities(labels, near)
    }

    /// `None` where nothing tells one priority from another.
    fn by_priorities(labels: Vec<(String, String)>, near: Option<Near>) -> Option<Self> {
        (near.is_some() || !labels.is_empty()).then_some(Placement::Priorities { labels, near })
    }

    /// The priority of an endpoint before gaps are closed; 0 is the first.
    pub(super) fn level(&self, endpoint: &Endpoint) -> usize {
        let Placement::Priorities { labels, near } = self else {
            return 0;
        };
        let there = Client {
            labels: &endpoint.labels,
            locality: &endpoint.locality,
            network: &endpoint.network,
            node: &endpoint.node,
        };
        let differs = |(name, value): &(String, String)| there.value(name) != value;
        let by_label = labels.iter().position(differs);
        let by_label = by_label.map_or(0, |first| labels.len() - first);
        let there = &endpoint.locality;
        let by_place = match near {
            None => 0,
            Some(Near::Place(here, next)) => distance(here, next.as_deref(), there),
            Some(Near::Region(here, _)) if *here == there.region => 0,
            Some(Near::Region(_, Some(next))) if **next == *there.region => 1,
            Some(Near::Region(..)) => 2,
        };
        by_label * DISTANCES + by_place
    }

    /// Gives places their shares, where there are any.
    pub(super) fn share(&self, places: &mut [LocalityLbEndpoints]) {
        let Placement::Shares(shares) = self else {
            return;
        };
        let mut rest: Vec<&mut LocalityLbEndpoints> = places.iter_mut().collect();
        for (pattern, share) in shares {
            let (mut matching, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|place| covers(pattern, &locality(place)));
            rest = others;
            let total: u64 = matching.iter().map(|place| weight(place)).sum();
            for place in &mut matching {
                // A share of several places is divided by their weights.
                let part = (weight(place) * u64::from(*share)).div_ceil(total.max(1));
                match u32::try_from(part) {
                    Ok(0) => place.lb_endpoints.clear(),
                    part => place.load_balancing_weight = wire::number(part.unwrap_or(u32::MAX)),
                }
            }
        }
        for place in rest {
            place.lb_endpoints.clear();
        }
    }
}

/// What is compared of a client or an endpoint.
pub(crate) struct Client<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) locality: &'a Locality,
    pub(crate) network: &'a str,
    pub(crate) node: &'a str,
}

impl Client<'_> {
    /// The region; `None` where that is not known, so that none is nearer than another.
    fn region(&self) -> Option<&ArcStr> {
        Some(&self.locality.region).filter(|region| !region.is_empty())
    }

    /// The labels of a list and the values that come first: those that it says, or the client's own.
    fn asked(&self, labels: &[String]) -> Vec<(String, String)> {
        let value = |label: &String| match label.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (label.clone(), self.value(label).to_owned()),
        };
        labels.iter().map(value).collect()
    }

    /// A label; those of the place are what the place is, whoever has them as labels. Empty where
    /// there is none.
    fn value(&self, name: &str) -> &str {
        match name {
            labels::REGION => &self.locality.region,
            labels::ZONE => &self.locality.zone,
            labels::SUBZONE => &self.locality.sub_zone,
            labels::NETWORK => self.network,
            labels::HOSTNAME => self.node,
            name => self.labels.value(name).unwrap_or_default(),
        }
    }
}

/// The region that takes over for one.
fn next_region(failover: &[LocalityFailover], region: &str) -> Option<String> {
    let next = failover.iter().find(|failover| failover.from == region)?;
    Some(next.to.clone())
}

fn locality(place: &LocalityLbEndpoints) -> Locality {
    place
        .locality
        .as_ref()
        .map_or_else(Locality::default, |l| Locality {
            region: l.region.as_str().into(),
            zone: l.zone.as_str().into(),
            sub_zone: l.sub_zone.as_str().into(),
        })
}

fn weight(place: &LocalityLbEndpoints) -> u64 {
    let weight = place.load_balancing_weight.as_ref();
    weight.map_or(1, |weight| u64::from(weight.value))
}

/// True where a pattern like `region/zone/*` covers a place; what it does not name may be anything.
fn covers(pattern: &str, place: &Locality) -> bool {
    let parts = [&place.region, &place.zone, &place.sub_zone];
    let mut wanted = pattern.splitn(3, '/');
    for part in parts {
        match wanted.next() {
            None | Some("*" | "") => return true,
            Some(wanted) if *wanted != **part => return false,
            Some(_) => {}
        }
    }
    true
}

fn distance(here: &Locality, next_region: Option<&str>, there: &Locality) -> usize {
    let same = [
        here.region == there.region,
        here.zone == there.zone,
        here.sub_zone == there.sub_zone,
    ];
    let same = same.iter().take_while(|same| **same).count();
    match next_region {
        // Where a region is named that takes over, the others come after it.
        Some(next) if same == 0 && *there.region != *next => 4,
        _ => 3 - same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Locality {
        text.parse().expect("a locality")
    }

    #[test]
    fn patterns_cover_places() {
        for (pattern, covered, other) in [
            ("*", "r1/z1/s1", None),
            ("r1", "r1/z1/s1", Some("r2/z1/s1")),
            ("r1/*", "r1/z1/s1", Some("r2/z1/s1")),
            ("r1/z1/*", "r1/z1/s1", Some("r1/z2/s1")),
            ("r1/z1/s1", "r1/z1/s1", Some("r1/z1/s2")),
        ] {
            assert!(covers(pattern, &place(covered)), "{pattern} {covered}");
            assert!(
                !other.is_some_and(|o| covers(pattern, &place(o))),
                "{pattern}"
            );
        }
    }

    #[test]
    fn distances() {
        let here = place("r1/z1/s1");
        for (there, plain, with_next) in [
            ("r1/z1/s1", 0, 0),
            ("r1/z1/s2", 1, 1),
            ("r1/z2/s1", 2, 2),
            ("r2/z1/s1", 3, 3),
            ("r3/z1/s1", 3, 4),
        ] {
            assert_eq!(distance(&here, None, &place(there)), plain, "{there}");
            assert_eq!(
                distance(&here, Some("r2"), &place(there)),
                with_next,
                "{there}"
            );
        }
    }

    #[test]
    fn who_does_not_know_its_region_prefers_none() {
        let labels = Labels::new();
        let client = Client {
            labels: &labels,
            locality: &Locality::default(),
            network: "",
            node: "",
        };
        let zones = ZoneAwareLbSetting::default();
        assert_eq!(Placement::by_zones(&zones, &client), None);
        let places = LocalityLbSetting::default();
        assert_eq!(Placement::of(&places, &client, true), None);
        let by_label = ZoneAwareLbSetting {
            failover_priority: vec!["version=v1".to_owned()],
            ..zones
        };
        let found = Placement::by_zones(&by_label, &client);
        let labels = vec![("version".to_owned(), "v1".to_owned())];
        assert_eq!(found, Some(Placement::Priorities { labels, near: None }));
    }

    #[test]
    fn a_switch_turns_it_off() {
        let off = LocalityLbSetting {
            enabled: Some(false),
            ..LocalityLbSetting::default()
        };
        let mesh = MeshConfig {
            locality_lb_setting: Some(off),
            ..MeshConfig::default()
        };
        let policy = Policy::default();
        assert!(setting(&policy, None, &mesh).is_none());
        assert!(setting(&policy, None, &MeshConfig::default()).is_some());
        // A service that asks for near endpoints counts for more than the mesh.
        let near = Some(TrafficDistribution::SameZone);
        let found = setting(&policy, near, &mesh);
        assert!(matches!(found, Some(Setting::Locality(found)) if is_of_service(found)));
    }

    #[test]
    fn zones_count_for_more_than_places_of_their_level() {
        let mesh: MeshConfig = serde_json::from_value(serde_json::json!({
            "localityLbSetting": {"enabled": false},
            "zoneAwareLbSetting": {"enabled": false, "minClusterSize": 2},
        }))
        .expect("a mesh");
        let policy = Policy::default();
        let found = setting(&policy, None, &mesh);
        assert!(matches!(found, Some(Setting::Zones(of)) if of.min_cluster_size == Some(2)));
        let near = Some(TrafficDistribution::SameZone);
        let found = setting(&policy, near, &mesh);
        assert!(matches!(found, Some(Setting::Locality(_))));
        let balancer = serde_json::from_value(serde_json::json!({
            "zoneAwareLbSetting": {}, "localityLbSetting": {},
        }))
        .expect("a balancer");
        let policy = Policy {
            load_balancer: Some(&balancer),
            ..policy
        };
        let found = setting(&policy, near, &mesh);
        assert!(matches!(found, Some(Setting::Zones(of)) if of.min_cluster_size.is_none()));
    }
}
