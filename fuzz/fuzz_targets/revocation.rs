//! Revocation lists: DER, or PEM text.
#![no_main]

use std::time::SystemTime;

use corten_identity::{RevocationList, Trust, Usage, pem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(list) = RevocationList::parse(data) else { return };
    let chain = pem::certificates(include_bytes!("../corpus/certificate/root.pem")).expect("a certificate");
    let trust = Trust::new(&chain, list).expect("a root");
    let _ = trust.verify(&chain, Usage::Client, SystemTime::UNIX_EPOCH);
});
