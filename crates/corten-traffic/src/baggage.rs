//! The `baggage` header of a tunnel request: what a peer says about its workload, for telemetry only.

use std::fmt::Write as _;

use crate::workload::Workload;

/// Name of the header.
pub const BAGGAGE_HEADER: &str = "baggage";
/// Values longer than this are not a workload's, and must not become labels of metrics.
const VALUE_MAX: usize = 253;

/// What baggage says; what it leaves out is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Baggage<'a> {
    /// Cluster.
    pub cluster: Option<&'a str>,
    /// Namespace.
    pub namespace: Option<&'a str>,
    /// Name of the workload's owner, of whichever kind.
    pub workload_name: Option<&'a str>,
    /// Canonical name.
    pub service_name: Option<&'a str>,
    /// Canonical revision.
    pub revision: Option<&'a str>,
    /// Region.
    pub region: Option<&'a str>,
    /// Zone.
    pub zone: Option<&'a str>,
}

impl<'a> Baggage<'a> {
    /// From the values of all headers of that name. What is unknown, empty, too long or not printable is left out; of several, the last counts.
    pub fn parse(values: impl IntoIterator<Item = &'a [u8]>) -> Baggage<'a> {
        let mut baggage = Baggage::default();
        for value in values {
            for member in value.split(|byte| *byte == b',') {
                let mut parts = member.split(|byte| *byte == b'=');
                let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
                    continue;
                };
                let field = match key.trim_ascii() {
                    b"k8s.cluster.name" => &mut baggage.cluster,
                    b"k8s.namespace.name" => &mut baggage.namespace,
                    b"k8s.deployment.name" | b"k8s.cronjob.name" | b"k8s.pod.name" | b"k8s.job.name" => {
                        &mut baggage.workload_name
                    }
                    b"service.name" => &mut baggage.service_name,
                    b"service.version" => &mut baggage.revision,
                    b"cloud.region" => &mut baggage.region,
                    b"cloud.availability_zone" => &mut baggage.zone,
                    _ => continue,
                };
                *field = usable(value.trim_ascii());
            }
        }
        baggage
    }
}

fn usable(value: &[u8]) -> Option<&str> {
    let fits = !value.is_empty() && value.len() <= VALUE_MAX && value.iter().all(|byte| (0x20..0x7f).contains(byte));
    if fits { std::str::from_utf8(value).ok() } else { None }
}

impl Workload {
    /// This workload as baggage.
    pub fn baggage(&self) -> String {
        let members = [
            ("k8s.cluster.name", "", &*self.cluster),
            ("k8s.namespace.name", "", &*self.namespace),
            ("k8s.", self.workload_type.as_str(), &*self.workload_name),
            ("service.name", "", &*self.canonical_name),
            ("service.version", "", &*self.canonical_revision),
            ("cloud.region", "", &*self.locality.region),
            ("cloud.availability_zone", "", &*self.locality.zone),
        ];
        let mut text = String::with_capacity(160);
        for (key, kind, value) in members {
            if value.is_empty() {
                continue;
            }
            let comma = if text.is_empty() { "" } else { "," };
            let suffix = if kind.is_empty() { "" } else { ".name" };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{key}{kind}{suffix}={value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use corten_proto::workload as proto;

    use super::Baggage;
    use crate::{name::Interner, workload};

    #[test]
    fn encodes_and_parses() {
        let message = proto::Workload {
            uid: "u".to_owned(),
            namespace: "ns".to_owned(),
            workload_name: "web".to_owned(),
            workload_type: 1,
            canonical_revision: "v1".to_owned(),
            locality: Some(proto::Locality {
                region: "r".to_owned(),
                zone: "z".to_owned(),
                subzone: "s".to_owned(),
            }),
            ..proto::Workload::default()
        };
        let text = workload::parse(message, &mut Interner::default()).unwrap().baggage();
        assert_eq!(
            text,
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=ns,k8s.cronjob.name=web,service.version=v1,cloud.region=r,cloud.availability_zone=z"
        );
        let expected = Baggage {
            cluster: Some("Kubernetes"),
            namespace: Some("ns"),
            workload_name: Some("web"),
            service_name: None,
            revision: Some("v1"),
            region: Some("r"),
            zone: Some("z"),
        };
        assert_eq!(Baggage::parse([text.as_bytes()]), expected);
        let (first, second) = text.split_once(',').unwrap();
        assert_eq!(Baggage::parse([first.as_bytes(), second.as_bytes()]), expected);
    }

    #[test]
    fn leaves_out_what_it_cannot_use() {
        let long = format!("service.name={}", "x".repeat(254));
        for text in [
            "",
            ",,=,a=b",
            "service.name=",
            "service.name",
            "service.name=\x01",
            "service.name=\u{e9}",
            &long,
        ] {
            assert_eq!(Baggage::parse([text.as_bytes()]), Baggage::default(), "{text}");
        }
        assert_eq!(Baggage::parse([&b" service.name = a =b"[..]]).service_name, Some("a"));
    }
}
