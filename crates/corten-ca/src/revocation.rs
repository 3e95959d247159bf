//! Revocation lists of a self-made root.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};

use crate::issue::date;
use crate::material::Material;

/// When readers that care expect the next list; it is made anew at every start and change.
const NEXT_UPDATE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A certificate that is not to be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, big endian.
    serial: Vec<u8>,
}

/// Not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a serial number; write it as a decimal number, or as 0x and hexadecimal digits")]
pub struct ParseSerialError(String);

impl FromStr for Revoked {
    type Err = ParseSerialError;

    fn from_str(text: &str) -> Result<Revoked, ParseSerialError> {
        let failed = || ParseSerialError(text.chars().take(64).collect());
        let text = text.trim();
        let (digits, radix) = match text.strip_prefix("0x") {
            Some(hex) => (hex, 16),
            None => (text, 10),
        };
        // RFC 5280 allows 20 bytes, which are 49 decimal digits.
        if digits.is_empty() || digits.len() > 49 {
            return Err(failed());
        }
        let mut serial = Vec::new();
        for digit in digits.chars() {
            let digit = digit.to_digit(radix).ok_or_else(failed)?;
            multiply_add(&mut serial, radix, digit);
        }
        Ok(Revoked { serial })
    }
}

/// `number = number * factor + digit`, big endian.
fn multiply_add(number: &mut Vec<u8>, factor: u32, digit: u32) {
    let mut carry = digit;
    for byte in number.iter_mut().rev() {
        let [.., high, low] = (u32::from(*byte) * factor + carry).to_be_bytes();
        *byte = low;
        carry = u32::from(high);
    }
    if carry > 0 {
        // The factor is at most 16 and the digit below it, so that the carry is one byte.
        number.insert(0, carry.to_be_bytes()[3]);
    }
}

/// A list signed by a root, PEM.
pub(crate) fn list(material: &Material, revoked: &[Revoked], now: SystemTime) -> Result<String, rcgen::Error> {
    let number = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let entries = revoked.iter().map(|revoked| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&revoked.serial),
        revocation_time: date!(now),
        reason_code: Some(RevocationReason::Unspecified),
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date!(now),
        next_update: date!((now + NEXT_UPDATE)),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: entries.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(material.issuer())?.pem()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_decimal_or_hexadecimal() {
        let bytes = |text: &str| text.parse::<Revoked>().map(|revoked| revoked.serial);
        assert_eq!(bytes("0"), Ok(vec![]));
        assert_eq!(bytes("255"), Ok(vec![255]));
        assert_eq!(bytes("256"), Ok(vec![1, 0]));
        assert_eq!(bytes(" 0x0102ff "), Ok(vec![1, 2, 255]));
        assert_eq!(bytes("340282366920938463463374607431768211455"), Ok(vec![255; 16]));
        assert!(bytes("").is_err());
        assert!(bytes("12x").is_err());
        assert!(bytes(&"9".repeat(50)).is_err());
    }
}
