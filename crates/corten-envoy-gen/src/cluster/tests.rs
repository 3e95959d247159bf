//! Clusters and endpoints, as files: objects, and what comes of them.

use crate::testing;

#[test]
fn clusters_are_as_written() {
    assert!(testing::compare("clusters") > 0);
}
