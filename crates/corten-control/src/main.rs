//! corten-control, the control plane: sources, model, push, certificate authority, status.

fn main() {}
