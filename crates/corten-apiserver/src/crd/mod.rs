//! Custom resource definitions: from the stored definition to served resources.

/// One served version of a custom resource.
#[derive(Debug)]
pub(crate) struct CustomVersion {}
