//! Equal messages as equal bytes: the entries of maps, which memory holds in any order, are put in order of their keys.
//!
//! Everything that tells whether a resource changed, a version for one, goes by its bytes. Only what maps hold is moved, within the
//! message that it is in, so that no length changes.

use std::ops::Range;

use prost::{Message, Name};

/// What a field holds that matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holds {
    /// A map; its entries may hold maps themselves.
    Map(Option<usize>),
    /// A message that holds a map, however deep.
    Message(usize),
}

include!(concat!(env!("OUT_DIR"), "/maps.rs"));

/// Encodes a message. Equal messages become equal bytes, in every process.
pub fn encode<M: Message + Name>(message: &M) -> Vec<u8> {
    encode_as(&M::full_name(), message.encode_to_vec())
}

/// The same for a message of a type by its name that is bytes already.
pub(crate) fn encode_as(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    if let Ok(place) = MESSAGES.binary_search_by(|(known, _)| (*known).cmp(name)) {
        let all = 0..bytes.len();
        order(&mut bytes, all, place);
    }
    bytes
}

/// Orders the maps in a message; what is not a message as it was declared is left as it is.
fn order(bytes: &mut [u8], message: Range<usize>, place: usize) {
    let Some((_, fields)) = MESSAGES.get(place) else { return };
    let mut at = message.start;
    // The entries of the map that is being read, with the number of its field: they follow each other.
    let mut run: (u32, Vec<Range<usize>>) = (0, Vec::new());
    while at < message.end {
        let start = at;
        let Some((number, body)) = field(bytes, &mut at, message.end) else {
            return;
        };
        let held = fields.iter().find(|(of, _)| *of == number).map(|(_, holds)| *holds);
        if run.0 != number {
            sort(bytes, &std::mem::take(&mut run.1));
            run.0 = number;
        }
        match (held, body) {
            (Some(Holds::Map(inner)), Some(body)) => {
                if let Some(inner) = inner {
                    order(bytes, body, inner);
                }
                run.1.push(start..at);
            }
            (Some(Holds::Message(inner)), Some(body)) => order(bytes, body, inner),
            _ => {}
        }
    }
    sort(bytes, &run.1);
}

/// Puts neighbouring entries in order. They begin with the same field number and their length, then the key: to compare what
/// follows the length orders them by key.
fn sort(bytes: &mut [u8], entries: &[Range<usize>]) {
    let [first, .., last] = entries else { return };
    let mut held: Vec<Vec<u8>> = entries.iter().map(|entry| bytes[entry.clone()].to_vec()).collect();
    held.sort_by(|a, b| key(a).cmp(key(b)));
    bytes[first.start..last.end].copy_from_slice(&held.concat());
}

/// An entry's content.
fn key(entry: &[u8]) -> &[u8] {
    let mut at = 0;
    match field(entry, &mut at, entry.len()) {
        Some((_, Some(body))) => &entry[body],
        _ => entry,
    }
}

/// The next field: its number, and where its content is if it has a length. `None`: there is none whole.
fn field(bytes: &[u8], at: &mut usize, end: usize) -> Option<(u32, Option<Range<usize>>)> {
    let key = varint(bytes, at, end)?;
    let number = u32::try_from(key >> 3).ok()?;
    let body = match key & 7 {
        0 => {
            varint(bytes, at, end)?;
            None
        }
        1 => {
            *at += 8;
            None
        }
        2 => {
            let length = usize::try_from(varint(bytes, at, end)?).ok()?;
            let start = *at;
            *at = start.checked_add(length)?;
            Some(start..*at)
        }
        5 => {
            *at += 4;
            None
        }
        _ => return None,
    };
    (*at <= end).then_some((number, body))
}

fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).filter(|_| *at < end)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        envoy::config::{cluster::v3::Cluster, core::v3::Metadata},
        string_value, structure,
    };

    #[test]
    fn equal_messages_are_equal_bytes_whatever_order_maps_have() {
        let make = || {
            let fields =
                |prefix: &str| structure((0..50).map(|i| (format!("{prefix}{i}"), string_value(format!("{i}")))));
            Cluster {
                name: "a".to_owned(),
                metadata: Some(Metadata {
                    filter_metadata: (0..20).map(|i| (format!("filter{i}"), fields("x"))).collect(),
                    ..Metadata::default()
                }),
                alt_stat_name: "b".to_owned(),
                ..Cluster::default()
            }
        };
        let message = make();
        let bytes = encode(&message);
        assert!(
            (0..20).any(|_| make().encode_to_vec() != message.encode_to_vec()),
            "maps have no order of their own"
        );
        for _ in 0..20 {
            assert_eq!(encode(&make()), bytes);
        }
        assert_eq!(
            Cluster::decode(&bytes[..]).unwrap(),
            message,
            "it is still the same message"
        );
    }
}
