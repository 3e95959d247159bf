//! Where a workload runs: region, zone and subzone.

use std::fmt;

/// A place, or a rule that names places: parts may be empty, or `*` in rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone within the region.
    pub zone: String,
    /// The part of the zone; what follows a third slash belongs to it.
    pub subzone: String,
}

impl From<&str> for Locality {
    fn from(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            subzone: parts.next().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.subzone.is_empty() {
            write!(f, "/{}", self.subzone)?;
        }
        Ok(())
    }
}

impl Locality {
    /// Whether this place is within a rule: `region1/*`, `region1/zone1`.
    pub fn matches(&self, rule: &Locality) -> bool {
        let part =
            |rule: &str, ours: &str, may_lack: bool| rule == "*" || (may_lack && rule.is_empty()) || rule == ours;
        part(&rule.region, &self.region, false)
            && part(&rule.zone, &self.zone, true)
            && part(&rule.subzone, &self.subzone, true)
    }
}
