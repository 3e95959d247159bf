//! The mesh as a compiler's middle: resources to an immutable, incrementally computed snapshot, with diagnostics.
