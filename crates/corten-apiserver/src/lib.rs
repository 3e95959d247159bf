//! The local runtime's Kubernetes API: storage, discovery, list and watch, patch, admission.
