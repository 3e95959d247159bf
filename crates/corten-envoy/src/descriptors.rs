//! The descriptors of all messages.

use std::io::Read as _;
use std::sync::OnceLock;

use flate2::read::DeflateDecoder;
use prost_reflect::DescriptorPool;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.deflate"));
static POOL: OnceLock<DescriptorPool> = OnceLock::new();

/// The descriptors of all of Envoy's messages: some 30 MB of memory once unpacked.
///
/// # Panics
///
/// Never with descriptors that were built in: a test unpacks them.
pub fn pool() -> &'static DescriptorPool {
    POOL.get_or_init(|| {
        let mut bytes = Vec::new();
        DeflateDecoder::new(PACKED)
            .read_to_end(&mut bytes)
            .expect("what was packed when this was built unpacks");
        DescriptorPool::decode(&bytes[..]).expect("the descriptors are whole")
    })
}
