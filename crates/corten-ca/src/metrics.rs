//! Counts of what the authority did, under Istio's names.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($field:ident: $doc:literal,)*) => {
        /// The counts as they rise.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($field: AtomicU64,)*
        }

        /// The counts at one moment; each field has the name of its metric.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct MetricsValues {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl Metrics {
            /// The counts now.
            pub fn values(&self) -> MetricsValues {
                MetricsValues {
                    $($field: self.$field.load(Ordering::Relaxed),)*
                }
            }

            $(
                pub(crate) fn $field(&self) {
                    self.$field.fetch_add(1, Ordering::Relaxed);
                }
            )*
        }
    };
}

counts! {
    citadel_server_csr_count: "Requests received.",
    citadel_server_authentication_failure_count: "Callers that could not be authenticated, or not for the identity they wanted.",
    citadel_server_csr_parsing_err_count: "Signing requests that could not be read.",
    citadel_server_id_extraction_err_count: "Callers without an identity.",
    citadel_server_csr_sign_err_count: "Requests that could not be signed.",
    citadel_server_success_cert_issuance_count: "Certificates given.",
    citadel_server_root_rotation_count: "Changes of the signing key.",
}
