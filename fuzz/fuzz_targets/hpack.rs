//! Header blocks of anything: bounded lists, and what was decoded can be encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../crates/corten-hbone/tests/fuzzing/mod.rs"]
mod fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::hpack(data));
