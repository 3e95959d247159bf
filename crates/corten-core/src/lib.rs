//! Pure vocabulary of the mesh: names, hosts, ports, durations, identities.
