//! Workload certificates: TLS configuration, SPIFFE verification, signing requests, renewal, revocation, the CA client.
