//! gRPC over our own TLS: a client channel and a server with the peer's identity.
