//! The machine under virtual time.
