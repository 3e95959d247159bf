//! The Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical (codes of one length follow each other in the order of their symbols), so the lengths say it all:
//! the tables for decoding are computed from them when this is compiled.

use super::DecodeError;

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;

struct Tables {
    /// By the next eight bits: length and symbol of a code that short, or zero.
    short: [u16; 256],
    /// By length: the first code, how many there are, and where their symbols begin in `symbols`.
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    start: [u32; LENGTH_MAX + 1],
    /// The bytes in the order of their codes.
    symbols: [u8; 256],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut t = Tables {
        short: [0; 256],
        first: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        start: [0; LENGTH_MAX + 1],
        symbols: [0; 256],
    };
    let mut code = 0_u32;
    let mut placed = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        t.first[length] = code;
        t.start[length] = placed as u32;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                t.symbols[placed] = symbol as u8;
                placed += 1;
                if length <= 8 {
                    let base = (code as usize) << (8 - length);
                    let mut i = 0;
                    while i < 1 << (8 - length) {
                        t.short[base + i] = ((length as u16) << 8) | symbol as u16;
                        i += 1;
                    }
                }
                code += 1;
            }
            symbol += 1;
        }
        t.count[length] = code - t.first[length];
        length += 1;
    }
    t
}

/// Appends what `coded` stands for.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    // The bits not yet decoded, leftmost first.
    let mut window = 0_u64;
    let mut bits = 0_usize;
    let mut rest = coded.iter();
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (length, symbol) = match TABLES.short[(window >> 56) as usize] {
            0 => match long(window) {
                Some(found) => found,
                // Only the code for the end of the string is left, which must not appear whole; its beginning is padding.
                None => break,
            },
            short => (usize::from(short >> 8), short as u8),
        };
        if length > bits {
            break;
        }
        out.push(symbol);
        window <<= length;
        bits -= length;
    }
    // What is left is padding: fewer than eight bits, all ones.
    if bits >= 8 || (bits > 0 && window >> (64 - bits) != (1 << bits) - 1) {
        return Err(DecodeError::Huffman);
    }
    Ok(())
}

fn long(window: u64) -> Option<(usize, u8)> {
    for length in 9..=LENGTH_MAX {
        let code = (window >> (64 - length)) as u32;
        let index = code.wrapping_sub(TABLES.first[length]);
        if code >= TABLES.first[length] && index < TABLES.count[length] {
            return Some((length, TABLES.symbols[(TABLES.start[length] + index) as usize]));
        }
    }
    None
}

/// The opposite, for tests.
#[cfg(test)]
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let mut window = 0_u64;
    let mut bits = 0;
    for byte in plain {
        let length = usize::from(LENGTHS[usize::from(*byte)]);
        let place = TABLES.symbols[TABLES.start[length] as usize..]
            .iter()
            .position(|s| s == byte)
            .expect("each byte has a code");
        window = (window << length) | u64::from(TABLES.first[length] + place as u32);
        bits += length;
        while bits >= 8 {
            out.push((window >> (bits - 8)) as u8);
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(((window << (8 - bits)) as u8) | ((1 << (8 - bits)) - 1));
    }
}
