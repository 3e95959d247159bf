//! A small decompressor for zlib streams with a preset dictionary (RFC 1950, RFC 1951), fed in pieces that end on a byte.
//!
//! SPDY compresses the headers of all streams of a connection as one zlib stream, flushed after each. No checksum is verified: the stream never ends.

/// How much a piece may grow.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How far back a stream may refer.
const WINDOW_BYTES: usize = 32 << 10;

/// Why a piece cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InflateError {
    #[error("it ends early")]
    Short,
    #[error("it is not deflate")]
    Malformed,
    #[error("it grows beyond {OUTPUT_BYTES_MAX} bytes")]
    TooLarge,
}

/// The state between pieces.
pub(super) struct Inflate {
    window: Vec<u8>,
    began: bool,
}

impl Inflate {
    pub(super) fn with_dictionary(dictionary: &[u8]) -> Self {
        Self {
            window: dictionary.to_vec(),
            began: false,
        }
    }

    /// Decompresses a piece that ends with a sync flush.
    pub(super) fn inflate(&mut self, mut piece: &[u8]) -> Result<Vec<u8>, InflateError> {
        if !self.began {
            let header: [u8; 2] = *piece.first_chunk().ok_or(InflateError::Short)?;
            // Method 8 is deflate; bit 5 of the flags says that the dictionary's checksum follows.
            if header[0] & 0x0f != 8 {
                return Err(InflateError::Malformed);
            }
            let skip = if header[1] & 0x20 != 0 { 6 } else { 2 };
            piece = piece.get(skip..).ok_or(InflateError::Short)?;
            self.began = true;
        }
        let start = self.window.len();
        let mut bits = Bits {
            bytes: piece,
            held: 0,
            count: 0,
        };
        while !bits.at_end() {
            let last = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => self.stored(&mut bits)?,
                1 => {
                    let (literals, distances) = fixed();
                    self.block(&mut bits, &literals, &distances, start)?;
                }
                2 => {
                    let (literals, distances) = dynamic(&mut bits)?;
                    self.block(&mut bits, &literals, &distances, start)?;
                }
                _ => return Err(InflateError::Malformed),
            }
            if self.window.len() - start > OUTPUT_BYTES_MAX {
                return Err(InflateError::TooLarge);
            }
            if last {
                break;
            }
        }
        let out = self.window[start..].to_vec();
        let surplus = self.window.len().saturating_sub(WINDOW_BYTES);
        self.window.drain(..surplus);
        Ok(out)
    }

    fn stored(&mut self, bits: &mut Bits<'_>) -> Result<(), InflateError> {
        bits.align();
        let (length, check) = (bits.take(16)?, bits.take(16)?);
        if length != !check & 0xffff {
            return Err(InflateError::Malformed);
        }
        for _ in 0..length {
            #[expect(clippy::cast_possible_truncation, reason = "eight bits were taken")]
            self.window.push(bits.take(8)? as u8);
        }
        Ok(())
    }

    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        literals: &Huffman,
        distances: &Huffman,
        start: usize,
    ) -> Result<(), InflateError> {
        loop {
            let symbol = literals.read(bits)?;
            if let Ok(byte) = u8::try_from(symbol) {
                self.window.push(byte);
            } else if symbol == 256 {
                return Ok(());
            } else {
                let (base, extra) = *LENGTHS.get(usize::from(symbol) - 257).ok_or(InflateError::Malformed)?;
                let length = usize::from(base) + bits.take(u32::from(extra))? as usize;
                let symbol = usize::from(distances.read(bits)?);
                let (base, extra) = *DISTANCES.get(symbol).ok_or(InflateError::Malformed)?;
                let distance = usize::from(base) + bits.take(u32::from(extra))? as usize;
                let from = self.window.len().checked_sub(distance).ok_or(InflateError::Malformed)?;
                // Byte by byte: what is copied may be part of what was just written.
                for at in from..from + length {
                    let byte = self.window[at];
                    self.window.push(byte);
                }
            }
            if self.window.len() - start > OUTPUT_BYTES_MAX {
                return Err(InflateError::TooLarge);
            }
        }
    }
}

/// Bits, the lowest of each byte first.
struct Bits<'b> {
    bytes: &'b [u8],
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn take(&mut self, wanted: u32) -> Result<u32, InflateError> {
        while self.count < wanted {
            let (&byte, rest) = self.bytes.split_first().ok_or(InflateError::Short)?;
            self.held |= u32::from(byte) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
        let value = self.held & ((1u32 << wanted) - 1);
        self.held >>= wanted;
        self.count -= wanted;
        Ok(value)
    }

    fn align(&mut self) {
        self.held >>= self.count % 8;
        self.count -= self.count % 8;
    }

    fn at_end(&self) -> bool {
        self.bytes.is_empty() && self.count < 8 && self.held == 0
    }
}

/// A canonical Huffman code: how many codes there are of each length, and their symbols in order.
struct Huffman {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Huffman {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0u16; 16];
        for &length in lengths {
            counts[usize::from(length & 15)] += 1;
        }
        counts[0] = 0;
        let mut symbols = Vec::new();
        for wanted in 1..16u8 {
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, length)| **length == wanted) {
                symbols.push(u16::try_from(symbol).unwrap_or(u16::MAX));
            }
        }
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<u16, InflateError> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            let count = u32::from(*count);
            if code < first + count {
                let at = index + (code - first);
                return self.symbols.get(at as usize).copied().ok_or(InflateError::Malformed);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(InflateError::Malformed)
    }
}

fn fixed() -> (Huffman, Huffman) {
    let mut lengths = [8u8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    (Huffman::new(&lengths), Huffman::new(&[5; 30]))
}

fn dynamic(bits: &mut Bits<'_>) -> Result<(Huffman, Huffman), InflateError> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literals = bits.take(5)? as usize + 257;
    let distances = bits.take(5)? as usize + 1;
    let codes = bits.take(4)? as usize + 4;
    let mut lengths = [0u8; 19];
    for place in &ORDER[..codes] {
        #[expect(clippy::cast_possible_truncation, reason = "three bits were taken")]
        let length = bits.take(3)? as u8;
        lengths[*place] = length;
    }
    let code = Huffman::new(&lengths);
    let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let symbol = code.read(bits)?;
        let (value, times) = match symbol {
            0..=15 => (u8::try_from(symbol).unwrap_or(0), 1),
            16 => (*lengths.last().ok_or(InflateError::Malformed)?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            _ => (0, 11 + bits.take(7)?),
        };
        lengths.extend(std::iter::repeat_n(value, times as usize));
    }
    if lengths.len() != literals + distances {
        return Err(InflateError::Malformed);
    }
    let (literals, distances) = lengths.split_at(literals);
    Ok((Huffman::new(literals), Huffman::new(distances)))
}

/// Base and extra bits of the length symbols from 257 on.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// Base and extra bits of the distance symbols.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python's zlib: compressobj(zdict=b"hello world, hello"), two pieces, each ended with Z_SYNC_FLUSH.
    include!("inflate_vectors.rs");

    #[test]
    fn pieces_of_one_stream_are_decompressed() {
        let mut inflate = Inflate::with_dictionary(b"hello world, hello");
        assert_eq!(inflate.inflate(FIRST).as_deref(), Ok(&FIRST_PLAIN.repeat(30)[..]));
        assert_eq!(inflate.inflate(SECOND).as_deref(), Ok(SECOND_PLAIN));
    }

    #[test]
    fn broken_pieces_are_refused() {
        for cut in 7..FIRST.len() - 5 {
            let mut inflate = Inflate::with_dictionary(b"hello world, hello");
            assert!(inflate.inflate(&FIRST[..cut]).is_err(), "{cut}");
        }
        let mut inflate = Inflate::with_dictionary(b"");
        assert_eq!(inflate.inflate(&[0x78, 0x01, 0x07]), Err(InflateError::Malformed));
    }
}
