//! xDS sessions, client and server: one pure delta machine, state of the world rendered from it, thin gRPC drivers.
