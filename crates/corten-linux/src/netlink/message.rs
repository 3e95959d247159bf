//! The framing of netlink: length-prefixed messages with a fixed header, holding 4-byte aligned attributes that nest.

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// Everything of an attribute's type but the flags.
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// A growing buffer of one or more messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Where each message begins, for its sequence number.
    starts: Vec<usize>,
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many messages are in the buffer.
    pub(crate) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Adds a message; `body` writes what follows the header.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        body(self);
        self.align();
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far smaller than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes as they are: the fixed part of a message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.with_attribute(kind, |buffer| buffer.raw(value));
    }

    /// A number in the host's byte order (rtnetlink).
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order (nf_tables).
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A string with the NUL that the kernel expects.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.with_attribute(kind, |buffer| {
            buffer.raw(value.as_bytes());
            buffer.raw(&[0]);
        });
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.with_attribute(kind | NESTED, body);
    }

    /// An attribute whose value `body` writes; the length is filled in afterwards.
    pub(crate) fn with_attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are made smaller than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The bytes to send, with sequence numbers counting from `first`.
    pub(crate) fn numbered(&mut self, first: u32) -> &[u8] {
        for (start, sequence) in self.starts.iter().zip(first..) {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        &self.bytes
    }
}

/// One attribute as received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Type, without flags.
    pub(crate) kind: u16,
    /// The value's bytes; attributes again where it nests.
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u32(self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    pub(crate) fn be32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    pub(crate) fn be64(self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.get(..8)?.try_into().ok()?))
    }

    pub(crate) fn string(self) -> String {
        let text = self.value.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The attributes inside.
    pub(crate) fn nested(self) -> impl Iterator<Item = Attribute<'a>> {
        attributes(self.value)
    }
}

/// The attributes in `bytes`; ends at the first that is malformed.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut messages = Messages::new();
        messages.message(16, 5, |m| {
            m.raw(&[1, 2, 3, 4]);
            m.string(3, "lo");
            m.nest(18, |m| m.u32(1, 7));
        });
        assert_eq!(messages.count(), 1);
        let bytes = messages.numbered(9).to_vec();
        assert_eq!(bytes.len(), u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize);
        assert_eq!(bytes[8], 9);
        let read: Vec<_> = attributes(&bytes[20..]).collect();
        assert_eq!(read[0].string(), "lo");
        assert_eq!(read[1].nested().next().and_then(Attribute::u32), Some(7));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[][..], &[1], &[3, 0, 0, 0], &[9, 0, 1, 0, 1, 2, 3], &[255, 255, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
