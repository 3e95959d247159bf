//! Structural schemas of Kubernetes objects: validation, pruning, defaulting, CEL rules, patches and server-side apply.
