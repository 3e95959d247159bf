//! Resource types: Kubernetes, Istio and Gateway API, decoded with diagnostics.
