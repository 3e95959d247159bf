//! Pure generators: from a snapshot and a proxy to what Envoy is sent.
//!
//! A generator sees only its arguments, and what it makes refers only to what it makes.

