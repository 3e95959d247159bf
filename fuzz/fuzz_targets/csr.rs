//! Signing requests from strangers: DER, or PEM text.
#![no_main]

use corten_ca::Csr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(csr) = Csr::from_der(data) {
        let pem = corten_identity::pem::encode("CERTIFICATE REQUEST", data);
        let again = Csr::parse(&pem).expect("the same request as text");
        assert_eq!(again.common_name, csr.common_name);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Csr::parse(text);
    }
});
