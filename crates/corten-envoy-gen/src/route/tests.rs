//! Tables of routes, as files: objects, who asks, and what is answered.

use crate::testing;

#[test]
fn tables_are_as_written_down() {
    assert!(testing::compare("routes") > 0);
}
