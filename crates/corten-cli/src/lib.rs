//! The user's command.
