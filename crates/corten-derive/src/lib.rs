//! Derives decoding with diagnostics, encoding and schema from a resource type.
