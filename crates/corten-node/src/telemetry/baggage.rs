//! What a peer says of itself, kept as long as its connection; and the trace of a connection, `traceparent`.

/// What a baggage header said. For telemetry only, never for a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// Cluster.
    pub cluster: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name of the owner.
    pub workload: Option<String>,
    /// Canonical service.
    pub service: Option<String>,
    /// Canonical revision.
    pub revision: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Zone.
    pub zone: Option<String>,
}

impl From<corten_traffic::Baggage<'_>> for Baggage {
    fn from(said: corten_traffic::Baggage<'_>) -> Baggage {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Baggage {
            cluster: owned(said.cluster),
            namespace: owned(said.namespace),
            workload: owned(said.workload_name),
            service: owned(said.service_name),
            revision: owned(said.revision),
            region: owned(said.region),
            zone: owned(said.zone),
        }
    }
}

/// A new `traceparent`.
pub fn trace(trace: u128, span: u64) -> [u8; 55] {
    let mut text = [b'-'; 55];
    let hex = |mut value: u128, digits: &mut [u8]| {
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(value & 15) as usize];
            value >>= 4;
        }
    };
    hex(0, &mut text[..2]);
    hex(trace, &mut text[3..35]);
    hex(span.into(), &mut text[36..52]);
    hex(0, &mut text[53..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_their_form() {
        let text = trace(0xabc, 0x12);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "00-00000000000000000000000000000abc-0000000000000012-00"
        );
    }
}
