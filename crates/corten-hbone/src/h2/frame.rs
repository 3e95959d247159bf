//! Frames on the wire (RFC 9113 §4 and §6): heads read and written.

use super::Reason;

pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const HEAD_BYTES: usize = 9;
/// The largest frame that a peer may send which has not been told otherwise, and the least it must take.
pub(super) const FRAME_SIZE_DEFAULT: u32 = 16_384;
pub(super) const FRAME_SIZE_LIMIT: u32 = (1 << 24) - 1;
pub(super) const WINDOW_DEFAULT: u32 = 65_535;
pub(super) const WINDOW_LIMIT: u32 = (1 << 31) - 1;
pub(super) const STREAM_LIMIT: u32 = (1 << 31) - 1;

/// What kind of frame follows a head.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames; which of them a frame can have depends on its kind.
pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings.
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The nine bytes before each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(b: &[u8; HEAD_BYTES]) -> Head {
        Head {
            length: u32::from_be_bytes([0, b[0], b[1], b[2]]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5], b[6], b[7], b[8]]) & STREAM_LIMIT,
        }
    }

    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame with a payload that is at hand.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let head = Head {
        length: payload.len() as u32,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(payload);
}

pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put(out, kind::RST_STREAM, 0, stream, &reason.0.to_be_bytes());
}

pub(super) fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

pub(super) fn put_go_away(out: &mut Vec<u8>, last_stream: u32, reason: Reason, debug: &[u8]) {
    let mut payload = Vec::with_capacity(8 + debug.len());
    payload.extend_from_slice(&last_stream.to_be_bytes());
    payload.extend_from_slice(&reason.0.to_be_bytes());
    payload.extend_from_slice(debug);
    put(out, kind::GOAWAY, 0, 0, &payload);
}

/// Appends a header block as HEADERS and, where it is larger than the peer's frames, CONTINUATION.
pub(super) fn put_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool, frame_size_max: u32) {
    let end_stream = if end_stream { flag::END_STREAM } else { 0 };
    let (mut part, mut rest) = block.split_at(block.len().min(frame_size_max as usize));
    let (mut kind, mut flags) = (kind::HEADERS, end_stream);
    loop {
        if rest.is_empty() {
            flags |= flag::END_HEADERS;
        }
        put(out, kind, flags, stream, part);
        if rest.is_empty() {
            return;
        }
        (part, rest) = rest.split_at(rest.len().min(frame_size_max as usize));
        (kind, flags) = (kind::CONTINUATION, 0);
    }
}

pub(super) fn be32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}
