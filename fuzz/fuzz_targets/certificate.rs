//! Certificates of peers: their names, their verification, and an authority's answer made of them.
#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use corten_core::Identity;
use corten_identity::{RevocationList, SigningRequest, Trust, Usage, peer_identities, pem, uri_names};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

/// A root of which no input has the key.
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let roots = pem::certificates(include_bytes!("../corpus/certificate/root.pem")).expect("a certificate");
    Trust::new(&roots, RevocationList::default()).expect("a root")
});
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| "spiffe://a/ns/b/sa/c".parse().expect("an identity"));

fuzz_target!(|data: &[u8]| {
    let certificate = CertificateDer::from(data);
    let names = uri_names(&certificate);
    let identities = peer_identities(&certificate);
    assert!(identities.len() <= names.len());
    for identity in &identities {
        assert!(names.contains(&identity.to_string()));
    }
    for usage in [Usage::Client, Usage::Server] {
        // Only what the root signed is good, and the seeds are the only such.
        let _ = TRUST.verify(std::slice::from_ref(&certificate), usage, SystemTime::UNIX_EPOCH);
    }
    let _ = Trust::new(std::slice::from_ref(&certificate), RevocationList::default());
    let _ = pem::private_key(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(request) = SigningRequest::new(&IDENTITY)
    {
        let answer: Vec<String> = text.split('\0').map(str::to_owned).collect();
        assert!(
            request.finish(&answer).is_err(),
            "nobody can sign for a key made a moment ago"
        );
    }
});
