//! The tables that indexes point into: 61 fixed fields (RFC 7541, appendix A) and those the peer has added.

use std::collections::VecDeque;

/// What each entry counts beside its bytes (RFC 7541 §4.1).
pub(super) const OVERHEAD: usize = 32;

#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// The fields that the peer has added, newest first, within a size.
pub(super) struct Table {
    /// Lengths of name and value, newest last; the bytes lie in the same order in `bytes` from `start` on.
    entries: VecDeque<(usize, u32, u32)>,
    bytes: Vec<u8>,
    start: usize,
    size: usize,
    size_max: usize,
}

impl Table {
    pub(super) fn new(size_max: usize) -> Table {
        Table {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            start: 0,
            size: 0,
            size_max,
        }
    }

    /// The field an index stands for; none if there is no such entry.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let newest_first = index - 1 - STATIC.len();
        let place = self.entries.len().checked_sub(1 + newest_first)?;
        let (offset, name, value) = self.entries[place];
        let (name, value) = (name as usize, value as usize);
        let field = &self.bytes[offset..offset + name + value];
        Some(field.split_at(name))
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(0);
    }

    /// Adds a field; one that is larger than the table empties it.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let needed = name.len() + value.len() + OVERHEAD;
        self.evict(needed);
        if needed > self.size_max {
            return;
        }
        // The bytes of evicted entries go once they are as many as the table may hold, so moving the rest is rare.
        if self.start > self.size_max {
            self.bytes.drain(..self.start);
            for entry in &mut self.entries {
                entry.0 -= self.start;
            }
            self.start = 0;
        }
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back((offset, name.len() as u32, value.len() as u32));
        self.size += needed;
    }

    fn evict(&mut self, needed: usize) {
        while self.size + needed > self.size_max {
            let Some((_, name, value)) = self.entries.pop_front() else {
                break;
            };
            let length = (name + value) as usize;
            self.start += length;
            self.size -= length + OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }
}
