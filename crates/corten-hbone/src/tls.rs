//! TLS as this crate uses it: rustls does the handshake and keeps the keys; records are sealed and opened here.
//!
//! rustls's own record handling copies each byte twice more in either direction and reads in small pieces, which is most of what
//! a bulk transfer costs a proxy. Here a record is opened in place, where it was read to, and sealed from the batch that is to be sent.
//! The ciphers are those of rustls's provider.

mod handshake;
mod records;

pub(crate) use handshake::{Handshake, Step};
pub(crate) use records::{Opened, Records};

/// The head of a record: type, version, length.
pub(crate) const HEAD_BYTES: usize = 5;
/// The most that a record may carry, sealed; TLS 1.2 allows the larger overhead.
const SEALED_MAX: usize = (16 << 10) + 2048;

/// The length of the first record with its head: `None` if the head is not there yet.
pub(crate) fn record_length(bytes: &[u8]) -> Option<Result<usize, rustls::Error>> {
    let &[kind, major, _, l0, l1] = bytes.first_chunk::<HEAD_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if !(20..=23).contains(&kind) || major != 3 {
        return Some(Err(rustls::InvalidMessage::InvalidContentType.into()));
    }
    if length > SEALED_MAX {
        return Some(Err(rustls::InvalidMessage::MessageTooLarge.into()));
    }
    Some(Ok(HEAD_BYTES + length))
}
