//! The certificate authority: roots and intermediates, who may have which identity, signing.
