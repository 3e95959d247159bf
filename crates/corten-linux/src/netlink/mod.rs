//! Netlink: messages of nested attributes, and a synchronous socket that waits for the kernel's word on each.
//!
//! Shared by [`net`](crate::net) (rtnetlink) and [`nft`](crate::nft) (nf_tables). One encoder of a few hundred lines serves both and keeps
//! the CNI plugin tiny; it knows the framing only, no message of either family.

mod message;
mod socket;

pub(crate) use message::{Attribute, Messages, attributes};
pub(crate) use socket::{Reply, Socket, error_of};

/// What the kernel (or reaching it) refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {}{}", source, detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
pub struct NetlinkError {
    /// What was attempted, with its values.
    pub action: String,
    /// The error number.
    pub source: std::io::Error,
    /// The kernel's own explanation, where it gave one.
    pub detail: Option<String>,
}

impl NetlinkError {
    fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// What was to be made is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// What was to be removed or changed is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL)
        )
    }

    /// The caller may not do this here.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
    }

    /// The message was larger than the socket may send at once.
    pub fn is_too_large(&self) -> bool {
        matches!(self.errno(), Some(libc::EMSGSIZE | libc::ENOBUFS))
    }
}
