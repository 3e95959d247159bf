//! BackendTLSPolicy: TLS between a gateway and a backend.

use std::collections::BTreeMap;

use corten_core::Host;
use corten_derive::{Enumeration, Message};

use super::policy::LocalPolicyTargetReferenceWithSectionName;
use super::shared::LocalObjectReference;

/// How gateways verify the backends they connect to.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BackendTLSPolicySpec {
    /// Settings that implementations define.
    #[api(max_properties = 16, values(max_length = 4096, min_length = 0))]
    pub options: BTreeMap<String, String>,
    /// The objects it is attached to.
    #[api(
        required,
        max_items = 16,
        min_items = 1,
        list_type = "atomic",
        rule(
            "self.all(p1, self.all(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name ? ((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == '')) : true))",
            "sectionName must be specified when targetRefs includes 2 or more references to the same target"
        ),
        rule(
            "self.all(p1, self.exists_one(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.sectionName) || p1.sectionName == '') && (!has(p2.sectionName) || p2.sectionName == '')) || (has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName))))",
            "sectionName must be unique when targetRefs includes 2 or more references to the same target"
        )
    )]
    pub target_refs: Vec<LocalPolicyTargetReferenceWithSectionName>,
    /// The validation.
    #[api(required)]
    pub validation: BackendTLSPolicyValidation,
}

/// The backend TLS policy validation.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, rule(r#"!(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 && has(self.wellKnownCACertificates) && self.wellKnownCACertificates != "")"#, "must not contain both CACertificateRefs and WellKnownCACertificates"), rule(r#"(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 || has(self.wellKnownCACertificates) && self.wellKnownCACertificates != "")"#, "must specify either CACertificateRefs or WellKnownCACertificates"))]
pub struct BackendTLSPolicyValidation {
    /// The objects with the authorities to trust.
    #[api(max_items = 8, list_type = "atomic")]
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// The hostname.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Host,
    /// The subject alt names.
    #[api(max_items = 5, list_type = "atomic")]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// The well known ca certificates.
    #[api(
        name = "wellKnownCACertificates",
        max_length = 253,
        min_length = 1,
        pattern = r#"^(System|([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]))$"#
    )]
    pub well_known_ca_certificates: Option<String>,
}

/// The subject alt name.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        r#"!(self.type == "Hostname" && (!has(self.hostname) || self.hostname == ""))"#,
        "SubjectAltName element must contain Hostname, if Type is set to Hostname"
    ),
    rule(
        r#"!(self.type != "Hostname" && has(self.hostname) && self.hostname != "")"#,
        "SubjectAltName element must not contain Hostname, if Type is not set to Hostname"
    ),
    rule(
        r#"!(self.type == "URI" && (!has(self.uri) || self.uri == ""))"#,
        "SubjectAltName element must contain URI, if Type is set to URI"
    ),
    rule(
        r#"!(self.type != "URI" && has(self.uri) && self.uri != "")"#,
        "SubjectAltName element must not contain URI, if Type is not set to URI"
    )
)]
pub struct SubjectAltName {
    /// The hostname.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Option<Host>,
    /// The type.
    #[api(required)]
    pub type_: SubjectAltNameType,
    /// The uri.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?"#
    )]
    pub uri: Option<String>,
}

/// The subject alt name type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum SubjectAltNameType {
    /// The value `Hostname`.
    #[default]
    Hostname,
    /// The value `URI`.
    #[api(name = "URI")]
    Uri,
}
