//! The pods of this node: told by the node agent with their network namespaces (ZDS), served until it says otherwise.
//!
//! [`state`] decides and knows no sockets, [`client`] carries packets.

pub mod client;
pub mod state;
