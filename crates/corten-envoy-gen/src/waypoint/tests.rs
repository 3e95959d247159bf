//! What becomes of the files below `testdata/waypoints` and `testdata/tunnels`, and what never happens.

use crate::testing;

#[test]
fn files_become_what_is_written_beside_them() {
    assert_eq!(testing::compare("waypoints"), 3);
    assert_eq!(testing::compare("tunnels"), 3);
}
