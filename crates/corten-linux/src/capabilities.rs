//! What this process may do to the kernel.

use rustix::thread::{CapabilitySet, capabilities};

/// Whether this process may make mount and network namespaces without a user namespace of its own.
///
/// True for root; false for an ordinary user, and for a root whose container took these capabilities away.
pub fn may_make_namespaces() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}
