//! What Secrets and ConfigMaps hold of certificates, as far as a gateway's status tells: only the facts leave this
//! file, no key does.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whether there is a server's certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// There is.
    Usable,
    /// It is not there under any of the names; what is there instead.
    Missing(String),
    /// It is there, and not usable; why.
    Malformed(String),
}

/// Whether there are certificates of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// There are.
    Usable,
    /// They are not there under any of the names; what is there instead.
    Missing(String),
    /// What is there is no bundle of certificates.
    Malformed,
}

/// The pairs of names under which a certificate and its key are looked for, in order.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// The names under which authorities are looked for, in order.
const ROOTS: [&str; 2] = ["cacert", "ca.crt"];

/// Looks for a server's certificate in a Secret's data.
pub(crate) fn pair(data: &BTreeMap<String, Vec<u8>>) -> Pair {
    let filled = |name: &str| data.get(name).filter(|value| !value.is_empty());
    for (certificate, key) in PAIRS {
        if let (Some(certificate), Some(key)) = (filled(certificate), filled(key)) {
            return match check_pair(certificate, key) {
                Ok(()) => Pair::Usable,
                Err(why) => Pair::Malformed(why.to_owned()),
            };
        }
    }
    for (certificate, key) in PAIRS {
        if data.contains_key(certificate) && data.contains_key(key) {
            return Pair::Missing(format!(
                "found keys \"{certificate}\" and \"{key}\", but they were empty"
            ));
        }
    }
    Pair::Missing(format!(
        "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: {}",
        names(data)
    ))
}

/// Looks for authorities in the data of a Secret or ConfigMap.
pub(crate) fn roots(data: &BTreeMap<String, Vec<u8>>) -> Roots {
    for name in ROOTS {
        if let Some(bundle) = data.get(name).filter(|value| !value.is_empty()) {
            let any = blocks(bundle).any(|block| block.label == "CERTIFICATE" && is_certificate(&block.der));
            return if any { Roots::Usable } else { Roots::Malformed };
        }
    }
    for name in ROOTS {
        if data.contains_key(name) {
            return Roots::Missing(format!("found key \"{name}\", but it was empty"));
        }
    }
    Roots::Missing(format!(
        "found secret, but didn't have expected keys cacert or ca.crt; found: {}",
        names(data)
    ))
}

/// The names of what is there, at most three.
fn names(data: &BTreeMap<String, Vec<u8>>) -> String {
    let names: Vec<&str> = data.keys().map(String::as_str).collect();
    match names.as_slice() {
        [a, b, c, rest @ ..] => format!("{a}, {b}, {c}, and {} more...", rest.len()),
        few => few.join(", "),
    }
}

fn is_certificate(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok()
}

/// Whether a certificate can be read and its key belongs to it. The words are those of Go's `crypto/tls`, which users
/// of the Gateway API know.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), &'static str> {
    let leaf = blocks(certificate)
        .find(|block| block.label == "CERTIFICATE")
        .ok_or("tls: failed to find any PEM data in certificate input")?;
    let (_, leaf) = X509Certificate::from_der(&leaf.der).map_err(|_| "x509: malformed certificate")?;
    let key = blocks(key)
        .find(|block| block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY"))
        .ok_or("tls: failed to find any PEM data in key input")?;
    let public = leaf.public_key().subject_public_key.data.as_ref();
    match public_key(&key.der) {
        Err(()) => Err("tls: failed to parse private key"),
        Ok(Some(derived)) if derived != public => Err("tls: private key does not match public key"),
        Ok(_) => Ok(()),
    }
}

/// The public key that a private key carries, in the form of a certificate's; `None`: it carries none.
fn public_key(der: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let mut fields = sequence(der)?;
    let version = fields.next(INTEGER)?;
    // PKCS #8 wraps the key of an algorithm; whoever has another INTEGER here is RSA, and an OCTET STRING elliptic.
    if let Ok(algorithm) = fields.peek(SEQUENCE) {
        fields.next(SEQUENCE)?;
        let inner = fields.next(OCTETS)?;
        let rsa = algorithm.windows(RSA.len()).any(|window| window == RSA);
        return if rsa || sequence(inner).is_ok() {
            public_key(inner)
        } else {
            // Edwards curves: the inner value is the seed; the public key follows in version 2 only.
            let carried = (version == [1]).then(|| fields.last(0x81)).flatten();
            Ok(carried.and_then(|bits| bits.get(1..)).map(<[u8]>::to_vec))
        };
    }
    if let Ok(modulus) = fields.next(INTEGER) {
        let exponent = fields.next(INTEGER)?;
        let mut inner = Vec::new();
        put(&mut inner, INTEGER, modulus);
        put(&mut inner, INTEGER, exponent);
        let mut key = Vec::new();
        put(&mut key, SEQUENCE, &inner);
        return Ok(Some(key));
    }
    fields.next(OCTETS)?;
    let Some(carried) = fields.last(0xa1) else {
        return Ok(None);
    };
    let mut carried = Der(carried);
    let bits = carried.next(BITS)?;
    Ok(bits.get(1..).map(<[u8]>::to_vec))
}

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// The object identifier of RSA keys.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Values in DER, one after the other.
struct Der<'a>(&'a [u8]);

fn sequence(der: &[u8]) -> Result<Der<'_>, ()> {
    Der(der).next(SEQUENCE).map(Der)
}

impl<'a> Der<'a> {
    /// The content of the next value, which must have this tag.
    fn next(&mut self, tag: u8) -> Result<&'a [u8], ()> {
        let (found, content, rest) = self.split()?;
        if found != tag {
            return Err(());
        }
        self.0 = rest;
        Ok(content)
    }

    /// As `next`, without passing it.
    fn peek(&self, tag: u8) -> Result<&'a [u8], ()> {
        Der(self.0).next(tag)
    }

    /// The first value of a tag among those that follow.
    fn last(&mut self, tag: u8) -> Option<&'a [u8]> {
        while let Ok((found, content, rest)) = self.split() {
            self.0 = rest;
            if found == tag {
                return Some(content);
            }
        }
        None
    }

    fn split(&self) -> Result<(u8, &'a [u8], &'a [u8]), ()> {
        let (&tag, rest) = self.0.split_first().ok_or(())?;
        let (&first, rest) = rest.split_first().ok_or(())?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(())?;
            if digits.len() > 4 {
                return Err(());
            }
            let length = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(())?;
        Ok((tag, content, rest))
    }
}

/// Writes a value in DER.
fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            out.extend(digits);
        }
    }
    out.extend(content);
}

/// A block of a PEM text.
struct Block {
    label: String,
    der: Vec<u8>,
}

/// The blocks of a PEM text that can be read.
fn blocks(text: &[u8]) -> impl Iterator<Item = Block> {
    let text = String::from_utf8_lossy(text).into_owned();
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else {
            break;
        };
        let Some((content, next)) = body.split_once(&format!("-----END {label}-----")) else {
            break;
        };
        let letters: String = content.split_whitespace().collect();
        if let Ok(der) = STANDARD.decode(letters) {
            found.push(Block {
                label: label.to_owned(),
                der,
            });
        }
        rest = next;
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
            .collect()
    }

    /// A certificate of an algorithm with its key.
    fn issued(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_usable_with_its_own_key_only() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let ((certificate, key), (_, other)) = (issued(algorithm), issued(algorithm));
            let found = pair(&data(&[("tls.crt", &certificate), ("tls.key", &key)]));
            assert_eq!(found, Pair::Usable, "{algorithm:?}");
            let found = pair(&data(&[("tls.crt", &certificate), ("tls.key", &other)]));
            let why = "tls: private key does not match public key".to_owned();
            assert_eq!(found, Pair::Malformed(why), "{algorithm:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |pairs: &[(&str, &str)], expect: &str| match pair(&data(pairs)) {
            Pair::Missing(why) => assert_eq!(why, expect),
            other => panic!("{other:?} instead of: {expect}"),
        };
        let neither = "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: ";
        check(&[], neither);
        check(
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")],
            &format!("{neither}a, b, c, and 1 more..."),
        );
        check(
            &[("tls.crt", ""), ("tls.key", "x")],
            "found keys \"tls.crt\" and \"tls.key\", but they were empty",
        );
    }

    #[test]
    fn authorities_are_a_bundle_with_a_certificate() {
        let (certificate, key) = issued(&rcgen::PKCS_ECDSA_P256_SHA256);
        let of = |text: &str| roots(&data(&[("ca.crt", text)]));
        assert_eq!(of(&format!("# ours\n{certificate}{certificate}")), Roots::Usable);
        assert_eq!(of(&key), Roots::Malformed);
        assert_eq!(of("hello"), Roots::Malformed);
        assert_eq!(
            of(""),
            Roots::Missing("found key \"ca.crt\", but it was empty".to_owned())
        );
    }

    #[test]
    fn foreign_bytes_are_no_keys() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x03, 0x02, 0x01, 0x00],
        ] {
            assert_eq!(public_key(der), Err(()), "{der:?}");
        }
    }
}
