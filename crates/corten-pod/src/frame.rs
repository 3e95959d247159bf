//! Messages on a stream socket: length, number of open files, JSON. Used by both sides; the sockets themselves are theirs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: environments and arguments of a container fit the kernel's own limit for them with room to spare.
pub const LENGTH_MAX: usize = 16 << 20;

const HEADER: usize = 8;

/// Why the other side cannot be understood; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length beyond [`LENGTH_MAX`].
    #[error("a message of {0} bytes is longer than {LENGTH_MAX}")]
    TooLong(usize),
    /// Not what it should be.
    #[error("cannot decode a message: {0}")]
    Json(#[from] serde_json::Error),
    /// A message names open files that did not come.
    #[error("a message should carry {expected} open files, {found} came")]
    Files {
        /// So many should have come.
        expected: usize,
        /// So many did.
        found: usize,
    },
}

/// A message as bytes; `files` of them are sent along with the first byte.
pub fn encode(message: &impl Serialize, files: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    if length > LENGTH_MAX {
        return Err(FrameError::TooLong(length));
    }
    let word = |value: usize| u32::try_from(value).expect("bounded above").to_le_bytes();
    bytes[..4].copy_from_slice(&word(length));
    bytes[4..HEADER].copy_from_slice(&word(files.min(LENGTH_MAX)));
    Ok(bytes)
}

/// Puts messages together from what a socket gave.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    files: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8], files: Vec<OwnedFd>) {
        self.bytes.extend_from_slice(bytes);
        self.files.extend(files);
    }

    /// The next whole message with its files, if it has arrived.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        let word = |at: usize| {
            let four: Option<[u8; 4]> = self.bytes.get(at..at + 4)?.try_into().ok();
            four.map(|four| u32::from_le_bytes(four) as usize)
        };
        let (Some(length), Some(count)) = (word(0), word(4)) else {
            return Ok(None);
        };
        if length > LENGTH_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        if count > self.files.len() {
            return Err(FrameError::Files {
                expected: count,
                found: self.files.len(),
            });
        }
        let files = self.files.drain(..count).collect();
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            // One large environment should not stay in memory for the life of the pod.
            self.bytes.shrink_to(4096);
        }
        Ok(Some((message, files)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let mut wire = encode(&"first", 0).unwrap();
        wire.extend(encode(&"second", 0).unwrap());
        for size in 1..wire.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(size) {
                decoder.push(piece, Vec::new());
                while let Some((message, _)) = decoder.message::<String>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, ["first", "second"], "pieces of {size}");
        }
    }

    #[test]
    fn files_stay_with_their_message() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&encode(&1, 0).unwrap(), vec![reader.into(), writer.into()]);
        decoder.push(&encode(&2, 2).unwrap(), Vec::new());
        assert_eq!(
            decoder.message::<u8>().unwrap().map(|(n, files)| (n, files.len())),
            Some((1, 0))
        );
        assert_eq!(
            decoder.message::<u8>().unwrap().map(|(n, files)| (n, files.len())),
            Some((2, 2))
        );
        assert!(decoder.message::<u8>().unwrap().is_none());
    }

    #[test]
    fn nonsense_is_an_error() {
        let refuse = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes, Vec::new());
            decoder.message::<u8>().unwrap_err().to_string()
        };
        assert!(refuse(&[0xff; 8]).contains("longer than"));
        assert!(refuse(&[1, 0, 0, 0, 0, 0, 0, 0, b'{']).contains("cannot decode"));
        assert!(refuse(&[1, 0, 0, 0, 1, 0, 0, 0, b'7']).contains("1 open files, 0 came"));
    }
}
