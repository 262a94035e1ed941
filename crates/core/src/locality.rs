//! Where a workload runs, for choosing near endpoints first.

use std::{convert::Infallible, fmt, str::FromStr};

use arcstr::ArcStr;

/// Label of nodes, which the platform may copy to their pods.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Label of nodes, which the platform may copy to their pods.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of nodes, which pods may have as well.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// Labels by which a workload says itself where it is, `region.zone.subzone`: Istio's, and the name that
/// it had before. The first that is there counts.
pub const LABELS: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// Region, zone and sub-zone, each empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Label [`REGION`] of the node.
    pub region: ArcStr,
    /// Label [`ZONE`] of the node.
    pub zone: ArcStr,
    /// Label [`SUBZONE`] of the node.
    pub sub_zone: ArcStr,
}

impl Locality {
    /// What a workload says of itself by one of [`LABELS`]. Labels of Kubernetes cannot hold a slash, so
    /// that dots stand between the parts of one that has none; beside slashes a dot is part of a name.
    pub fn of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Locality> {
        let mut texts = LABELS.iter().filter_map(|name| label(name));
        let text = texts.find(|text| !text.is_empty())?;
        let separator = if text.contains('/') { '/' } else { '.' };
        Some(Locality::split(text, separator))
    }

    fn split(text: &str, separator: char) -> Locality {
        let mut parts = text.splitn(3, separator).map(ArcStr::from);
        Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            sub_zone: parts.next().unwrap_or_default(),
        }
    }
}

impl FromStr for Locality {
    type Err = Infallible;

    /// Reads `region/zone/sub-zone`; what is missing stays empty.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Locality::split(text, '/'))
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.sub_zone.is_empty() {
            write!(f, "/{}", self.sub_zone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in ["", "r", "r/z", "r/z/s"] {
            let locality: Locality = text.parse().unwrap();
            assert_eq!(locality.to_string(), text);
        }
    }

    #[test]
    fn labels_have_dots_for_slashes() {
        for (newer, older, want) in [
            ("", "", None),
            ("", "r", Some("r")),
            ("", "r.z", Some("r/z")),
            ("r/z.1/s", "", Some("r/z.1/s")),
            ("r.z.s.t", "", Some("r/z/s.t")),
            ("newer.z", "older.z", Some("newer/z")),
        ] {
            let label = |name: &str| Some(if name == LABELS[0] { newer } else { older });
            let found = Locality::of_labels(label).map(|found| found.to_string());
            assert_eq!(found.as_deref(), want, "{newer:?} {older:?}");
        }
        assert_eq!(Locality::of_labels(|_| None), None);
    }
}
