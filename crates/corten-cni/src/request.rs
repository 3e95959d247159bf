//! What the agent is asked, in the words of Istio's agent: the fields of Go's network types as Go writes them by default.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::Call;

/// The body of `POST /cmdadd`.
pub fn body(call: &Call) -> Value {
    let ips: Vec<Value> = call.addresses().filter_map(address).collect();
    let mut body = json!({
        "Netns": call.netns,
        "PodName": call.name,
        "PodNamespace": call.namespace,
        "IPs": ips,
    });
    // Tells a pod from its predecessor of the same name; Istio's agent does not read it.
    if !call.uid.is_empty() {
        body["PodUID"] = json!(call.uid);
    }
    body
}

/// An address of a result (`{"address": "10.0.0.2/24", "gateway": ..., "interface": ...}`) as Go's `net.IPNet` is written.
fn address(ip: &Value) -> Option<Value> {
    let (address, length) = ip["address"].as_str()?.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: usize = length.parse().ok()?;
    let mut mask = if address.is_ipv4() { vec![0_u8; 4] } else { vec![0; 16] };
    if length > mask.len() * 8 {
        return None;
    }
    for bit in 0..length {
        mask[bit / 8] |= 0x80 >> (bit % 8);
    }
    Some(json!({
        "Interface": ip["interface"],
        "Address": { "IP": address, "Mask": base64(&mask) },
        "Gateway": ip["gateway"].as_str().unwrap_or_default(),
    }))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            text.push(if index <= chunk.len() {
                char::from(ALPHABET[(word >> (18 - 6 * index) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_go_writes_bytes() {
        let mask = |text: &str| address(&json!({ "address": text })).unwrap()["Address"]["Mask"].clone();
        assert_eq!(mask("10.1.2.3/24"), "////AA==");
        assert_eq!(mask("10.1.2.3/32"), "/////w==");
        assert_eq!(mask("10.1.2.3/0"), "AAAAAA==");
        assert_eq!(mask("fd00::1/64"), "//////////8AAAAAAAAAAA==");
        for malformed in ["10.1.2.3", "10.1.2.3/33", "x/8", "fd00::1/-1", "fd00::1/129"] {
            assert_eq!(address(&json!({ "address": malformed })), None, "{malformed}");
        }
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    }
}
