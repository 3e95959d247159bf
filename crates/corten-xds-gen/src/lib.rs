//! Pure generators: from a snapshot and a key to a resource as it goes over the wire.
//!
//! A generator sees only its arguments. Equal things give equal bytes, in every process, so that a resource's version
//! is a hash of its bytes and a client that comes back is sent only what it has not.

mod authorization;
mod workload;

use corten_model::{AddressKey, Name, Snapshot};
use prost::{Message, bytes::Bytes};
use xxhash_rust::xxh64::xxh64;

pub use self::{
    authorization::message as authorization_message,
    workload::{service_message, workload_message},
};

/// A resource, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name that clients know it by.
    pub name: Name,
    /// Changes whenever the body does.
    pub version: String,
    /// The message.
    pub body: Bytes,
}

impl Resource {
    fn new(name: &Name, message: &impl Message) -> Resource {
        let body = Bytes::from(message.encode_to_vec());
        Resource {
            name: Name::clone(name),
            version: format!("{:016x}", xxh64(&body, 0)),
            body,
        }
    }
}

/// The `istio.workload.Address` of a workload or service; `None`: there is none any more.
pub fn address(snapshot: &Snapshot, key: &AddressKey) -> Option<Resource> {
    let message = match key {
        AddressKey::Workload(uid) => workload::of_workload(snapshot.workload(uid)?),
        AddressKey::Service(name) => workload::of_service(snapshot.service(name)?),
    };
    Some(Resource::new(key.name(), &message))
}

/// The `istio.security.Authorization` of a policy, `namespace/name`; `None`: there is none any more.
pub fn authorization(snapshot: &Snapshot, key: &str) -> Option<Resource> {
    let policy = snapshot.policy(key)?;
    Some(Resource::new(&policy.key, &authorization::message(policy)))
}
