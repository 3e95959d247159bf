//! Header compression (RFC 7541): a full decoder with bounded memory, and a plain encoder.

mod encode;
mod huffman;
mod table;

#[cfg(test)]
mod tests;

use table::{OVERHEAD, Table};

pub use encode::{field, no_table};

/// A header block that cannot be decoded. What follows on the connection cannot be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The block ends within a field.
    #[error("header block ends within a field")]
    Truncated,
    /// A number that no header needs.
    #[error("integer in header block too large")]
    Integer,
    /// An index of a field that neither table has.
    #[error("index in header block points to no field")]
    Index,
    /// Padding or codes that are not of the Huffman code.
    #[error("invalid huffman code in header block")]
    Huffman,
    /// The peer changes its table to more than we allow, or in the middle of a block.
    #[error("invalid table size update in header block")]
    TableSize,
}

/// Decoded fields, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct FieldList {
    pub(super) bytes: Vec<u8>,
    /// Lengths of names and values.
    pub(super) fields: Vec<(u32, u32)>,
    size: usize,
    size_max: usize,
}

impl FieldList {
    /// Makes the list empty, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.size = 0;
    }

    /// Whether there were more fields than the list takes; those beyond are not in it.
    pub fn is_over(&self) -> bool {
        self.size > self.size_max
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut offset = 0;
        self.fields.iter().map(move |&(name, value)| {
            let field = &self.bytes[offset..offset + (name + value) as usize];
            offset += field.len();
            field.split_at(name as usize)
        })
    }

    /// Keeps what was appended from `start` on as a field, if there is room.
    fn commit(&mut self, start: usize, name: usize) {
        let length = self.bytes.len() - start;
        self.size = self.size.saturating_add(length + OVERHEAD);
        if self.is_over() {
            self.bytes.truncate(start);
        } else {
            self.fields.push((name as u32, (length - name) as u32));
        }
    }
}

/// Decodes the header blocks of one direction of a connection, which must come whole and in order.
pub struct Decoder {
    table: Table,
    table_size_max: usize,
}

impl Decoder {
    /// A decoder whose peer may keep a table of this size.
    pub fn new(table_size_max: usize) -> Decoder {
        Decoder {
            table: Table::new(table_size_max),
            table_size_max,
        }
    }

    /// Decodes a block and appends its fields to the list, as far as they are within a size, counted as RFC 9113 §6.5.2 does.
    pub fn decode(&mut self, block: &[u8], size_max: usize, list: &mut FieldList) -> Result<(), DecodeError> {
        list.size_max = size_max;
        let mut input = Input(block);
        let mut fields_seen = false;
        while let Some(&first) = input.0.first() {
            if first & 0xe0 == 0x20 {
                let size = input.integer(5)?;
                if fields_seen || size > self.table_size_max {
                    return Err(DecodeError::TableSize);
                }
                self.table.resize(size);
                continue;
            }
            fields_seen = true;
            let start = list.bytes.len();
            if first & 0x80 != 0 {
                let (name, value) = self.table.get(input.integer(7)?).ok_or(DecodeError::Index)?;
                // A byte can stand for the whole table: once over, nothing is copied any more.
                if list.size + name.len() + value.len() + OVERHEAD <= list.size_max {
                    list.bytes.extend_from_slice(name);
                    list.bytes.extend_from_slice(value);
                    list.commit(start, name.len());
                } else {
                    list.size = list.size_max.max(list.size) + 1;
                }
                continue;
            }
            let indexed = first & 0xc0 == 0x40;
            let name_index = input.integer(if indexed { 6 } else { 4 })?;
            if name_index == 0 {
                input.string(&mut list.bytes)?;
            } else {
                let (name, _) = self.table.get(name_index).ok_or(DecodeError::Index)?;
                list.bytes.extend_from_slice(name);
            }
            let name = list.bytes.len() - start;
            input.string(&mut list.bytes)?;
            if indexed {
                let (name, value) = list.bytes[start..].split_at(name);
                self.table.insert(name, value);
            }
            list.commit(start, name);
        }
        Ok(())
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    fn integer(&mut self, prefix_bits: u32) -> Result<usize, DecodeError> {
        let prefix_max = (1_usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        // Four more bytes reach 2^28: more than any length or index here.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Integer)
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let huffman = self.0.first().ok_or(DecodeError::Truncated)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        if huffman {
            huffman::decode(string, out)
        } else {
            out.extend_from_slice(string);
            Ok(())
        }
    }
}
