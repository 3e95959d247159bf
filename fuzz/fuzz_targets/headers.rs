//! What a peer's tunnel request says: authority, baggage, forwarded. No bytes make a parser panic, and what is taken is of the promised form.
#![no_main]

use corten_traffic::{Baggage, Requested, forwarded, forwarded_host};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let baggage = Baggage::parse(bytes.split(|byte| *byte == b'\n'));
    for value in [baggage.cluster, baggage.namespace, baggage.workload_name, baggage.service_name, baggage.revision] {
        assert!(value.is_none_or(|value| !value.is_empty() && value.len() <= 253 && !value.contains(char::is_control)));
    }
    let host = forwarded_host(bytes);
    assert!(host.is_none_or(|host| !host.is_empty() && host.len() <= 253));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Requested::parse(text) {
        Ok(Requested::Address(address)) => {
            assert_eq!(Requested::parse(&address.to_string()), Ok(Requested::Address(address)));
        }
        Ok(Requested::Hostname(name, port)) => {
            assert_eq!(Requested::parse(&format!("{name}:{port}")), Ok(Requested::Hostname(name, port)));
            let client = "10.0.0.1:1".parse().expect("an address");
            assert_eq!(forwarded_host(forwarded(client, Some(name)).as_bytes()), Some(name));
        }
        Err(_) => {}
    }
});
