//! Pure generators: snapshot and scope to workload and authorization resources.
