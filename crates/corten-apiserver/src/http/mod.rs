//! The API over HTTPS: connections, requests, responses. What a request does is in `verbs` and beside it.

mod body;
mod discovery;
mod openapi;
mod page;
mod protobuf;
mod query;
mod read_body;
mod request;
pub(crate) mod respond;
mod route;
mod server;
mod table;
mod watch;

pub(crate) use body::Body;
pub(crate) use query::Query;
pub(crate) use request::Target;
pub(crate) use route::Call;
pub use server::{ServeError, ServerConfig, serve};
