//! Where a workload runs, for choosing near endpoints first.

use std::{convert::Infallible, fmt, str::FromStr};

use arcstr::ArcStr;

/// Region, zone and sub-zone, each empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Label `topology.kubernetes.io/region` of the node.
    pub region: ArcStr,
    /// Label `topology.kubernetes.io/zone` of the node.
    pub zone: ArcStr,
    /// Label `topology.istio.io/subzone` of the node.
    pub sub_zone: ArcStr,
}

impl FromStr for Locality {
    type Err = Infallible;

    /// Reads `region/zone/sub-zone`; what is missing stays empty.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let mut parts = text.splitn(3, '/').map(ArcStr::from);
        Ok(Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            sub_zone: parts.next().unwrap_or_default(),
        })
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
}
