//! Installing, upgrading and removing the mesh as a user does it on Kubernetes, on instances of the local runtime without a mesh.
//!
//! What concerns the whole cluster has an instance to itself. What an installed mesh does is in the scenarios of `mesh`.

mod bad_input;
mod life;
mod support;
