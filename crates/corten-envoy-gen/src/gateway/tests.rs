//! Routers, as files: objects, who asks, and what is answered.

use crate::testing;

#[test]
fn routers_are_as_written_down() {
    assert!(testing::compare("gateways") > 0);
}
