//! What the commands around an installation have in common.

mod asked;

pub(crate) use asked::Asked;
