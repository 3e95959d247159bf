//! `xds.type.matcher.v3.IPMatcher`: a branch of a tree of matchers that is chosen by ranges of addresses. The package of messages
//! does not have it.

use envoy_types::pb::xds::{core::v3::CidrRange, r#type::matcher::v3::matcher::OnMatch};
use prost::{Message, Name};

/// Chooses by ranges of addresses: the narrowest range that has the address.
#[derive(Clone, PartialEq, Message)]
pub struct IpMatcher {
    /// The ranges.
    #[prost(message, repeated, tag = "1")]
    pub range_matchers: Vec<IpRangeMatcher>,
}

/// What to do with addresses of some ranges.
#[derive(Clone, PartialEq, Message)]
pub struct IpRangeMatcher {
    /// The ranges.
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<CidrRange>,
    /// What to do.
    #[prost(message, optional, tag = "2")]
    pub on_match: Option<OnMatch>,
    /// Wider ranges are not tried where this one leads nowhere.
    #[prost(bool, tag = "3")]
    pub exclusive: bool,
}

impl Name for IpMatcher {
    const NAME: &'static str = "IPMatcher";
    const PACKAGE: &'static str = "xds.type.matcher.v3";
}
