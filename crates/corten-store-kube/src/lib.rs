//! The Kubernetes API as source: watches, status writer, leader election, token reviews.
