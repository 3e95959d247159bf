//! Making certificates.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;

/// Certificates begin this long before they are made, for clocks that are behind.
pub(crate) const BACKDATE: Duration = Duration::from_secs(120);

/// Whether a certificate is for an identity or for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Uri(String),
    Dns(String),
}

/// A leaf to be made.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) names: Vec<Name>,
    pub(crate) common_name: Option<String>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Leaf {
    pub(crate) fn sign(
        &self,
        key: &impl PublicKeyData,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = params(self.not_before, self.not_after);
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.custom_extensions = vec![alternative_names(&self.names)];
        Ok(params.signed_by(key, issuer)?.der().clone())
    }
}

/// A self-signed root.
pub(crate) fn root(
    organization: &str,
    common_name: &str,
    not_before: SystemTime,
    not_after: SystemTime,
    key: &KeyPair,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = params(not_before, not_after);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.der().clone())
}

fn params(not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) = (date!(not_before), date!(not_after));
    // The first bit is 0 so that the number is positive, the second 1 so that its length is always the same.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// In the type that `rcgen` wants, which is no dependency of ours.
macro_rules! date {
    ($time:expr) => {
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs(
                $time
                    .duration_since(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs()
                    .min($crate::issue::LAST_SECOND),
            )
    };
}
pub(crate) use date;

/// The last second of the year 9999, which is the last that certificates can name.
pub(crate) const LAST_SECOND: u64 = 253_402_300_799;

/// The extension of alternative names, which is critical even where there is a subject.
fn alternative_names(names: &[Name]) -> CustomExtension {
    let mut content = Vec::new();
    for name in names {
        let (tag, text) = match name {
            Name::Dns(text) => (0x82, text),
            Name::Uri(text) => (0x86, text),
        };
        write_der(&mut content, tag, text.as_bytes());
    }
    let mut sequence = Vec::new();
    write_der(&mut sequence, 0x30, &content);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], sequence);
    extension.set_criticality(true);
    extension
}

fn write_der(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    match content.len() {
        // The short form: the length itself, which fits in 7 bits.
        0..=0x7f => out.push(length[length.len() - 1]),
        _ => {
            let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // At most 8 bytes, so that the count fits.
            out.push(0x80 | significant.len() as u8);
            out.extend(significant);
        }
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        for (length, head) in [
            (5, &[0x86, 5][..]),
            (127, &[0x86, 127]),
            (128, &[0x86, 0x81, 128]),
            (300, &[0x86, 0x82, 1, 44]),
        ] {
            let mut out = Vec::new();
            write_der(&mut out, 0x86, &vec![0; length]);
            assert_eq!(out[..head.len()], *head);
            assert_eq!(out.len(), head.len() + length);
        }
    }
}
