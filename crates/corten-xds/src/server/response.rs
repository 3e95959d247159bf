//! A response before it is bytes: a list of shared resources, in either variant of the protocol.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use corten_grpc::Message;

use super::Resource;
use super::drive::Variant;
use super::resource::{field, field_length};
use super::store::All;

/// What a session sends.
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) variant: Variant,
    pub(super) type_url: Box<str>,
    pub(super) nonce: Box<str>,
    pub(super) version_info: Arc<str>,
    pub(super) resources: Resources,
    pub(super) removed: Vec<Arc<str>>,
    /// Who answers; empty: that is not said.
    pub(super) control_plane: Box<str>,
}

/// The resources of a response.
#[derive(Debug, Clone)]
pub(super) enum Resources {
    /// All that there are of the type.
    All(All),
    /// These, each with the other names to send along.
    Some(Vec<(Arc<Resource>, Vec<String>)>),
}

impl Resources {
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        match self {
            Resources::All(all) => Box::new(all.resources.iter().map(|resource| resource.name())),
            Resources::Some(some) => Box::new(some.iter().map(|(resource, _)| resource.name())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Resources::All(all) => all.resources.len(),
            Resources::Some(some) => some.len(),
        }
    }

    fn piece(&self, variant: Variant, position: usize) -> Bytes {
        match (self, variant) {
            (Resources::All(all), Variant::Delta) => all.resources[position].delta(),
            (Resources::All(all), Variant::State) => all.resources[position].state(),
            (Resources::Some(some), Variant::Delta) => some[position].0.delta_with(&some[position].1),
            (Resources::Some(some), Variant::State) => some[position].0.state(),
        }
    }

    fn bytes(&self, variant: Variant) -> usize {
        match (self, variant) {
            // Known without looking at them: this is what every client of a restarted server asks for.
            (Resources::All(all), Variant::Delta) => all.delta_bytes,
            _ => (0..self.len())
                .map(|position| self.piece(variant, position).len())
                .sum(),
        }
    }
}

impl Response {
    /// The type of its resources.
    pub fn type_url(&self) -> &str {
        &self.type_url
    }

    /// What its acknowledgement will carry.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Names of the resources in it.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.names()
    }

    /// Names of resources that the client shall forget.
    pub fn removed(&self) -> &[Arc<str>] {
        &self.removed
    }

    /// As a message, which is put together while it is sent.
    pub fn into_message(self) -> Message {
        let mut head = BytesMut::new();
        field(1, self.version_info.as_bytes(), &mut head);
        let mut tail = BytesMut::new();
        field(4, self.type_url.as_bytes(), &mut tail);
        field(5, self.nonce.as_bytes(), &mut tail);
        if self.variant == Variant::Delta {
            let removed = self.removed.iter().map(|name| field_length(6, name.len())).sum();
            tail.reserve(removed);
            for name in &self.removed {
                field(6, name.as_bytes(), &mut tail);
            }
        }
        if !self.control_plane.is_empty() {
            let tag = if self.variant == Variant::Delta { 7 } else { 6 };
            let mut identifier = BytesMut::new();
            field(1, self.control_plane.as_bytes(), &mut identifier);
            field(tag, &identifier, &mut tail);
        }
        let (variant, resources) = (self.variant, self.resources);
        let length = head.len() + resources.bytes(variant) + tail.len();
        let pieces = (0..resources.len()).map(move |position| resources.piece(variant, position));
        let pieces = std::iter::once(head.freeze())
            .chain(pieces)
            .chain(std::iter::once(tail.freeze()));
        Message::new(length, pieces)
    }
}
