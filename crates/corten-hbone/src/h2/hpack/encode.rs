//! Writing header fields.
//!
//! Only the fixed table is used. A table of our own would save some hundred bytes a connection that is opened, and would
//! bind every block to the order of all blocks before it; a proxy sends too few headers for that to pay.

use super::table::STATIC;

/// Writes one field. The name must be lower case.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let mut by_name = None;
    for (place, (known, fixed)) in STATIC.iter().enumerate() {
        if *known == name {
            if fixed.as_bytes() == value && !value.is_empty() {
                integer(out, 0x80, 7, place + 1);
                return;
            }
            by_name = by_name.or(Some(place + 1));
        }
    }
    // Literal without indexing.
    match by_name {
        Some(index) => integer(out, 0, 4, index),
        None => {
            out.push(0);
            string(out, name.as_bytes());
        }
    }
    string(out, value);
}

/// Tells the peer that we use no table of our own, which it must hear once it has made its table smaller.
pub fn no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn integer(out: &mut Vec<u8>, pattern: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1_usize << prefix_bits) - 1;
    if value < prefix_max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
