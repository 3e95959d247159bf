//! portforward.
use super::PodBackend;
use super::connect::Socket;
use crate::object::Object;
use std::sync::Arc;
pub(super) async fn tunnel(_socket: Socket, _backend: Arc<dyn PodBackend>, _pod: &Object) {}
pub(super) async fn channels(_socket: Socket, _backend: Arc<dyn PodBackend>, _pod: &Object, _ports: &[u16]) {}
