//! Admin HTTP: the views of our processes that others may see, a small server, a client, metrics text.

pub mod client;
pub mod config_dump;
pub mod http;
