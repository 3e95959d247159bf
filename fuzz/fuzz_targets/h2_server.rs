//! A server of HTTP/2 is fed anything: no panic, no event that the protocol forbids, no endless output.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../crates/corten-hbone/tests/fuzzing/mod.rs"]
mod fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::server(data));
