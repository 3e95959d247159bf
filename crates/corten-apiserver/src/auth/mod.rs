//! Who a caller is and what he may do: client certificates, service account tokens, and the reviews that answer for both.

mod certificates;
mod reviews;
mod tokens;

pub(crate) use certificates::certificate_user;
pub(crate) use reviews::{review, user_info};
pub(crate) use tokens::TokenAuthority;
