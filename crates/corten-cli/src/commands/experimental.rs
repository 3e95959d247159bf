//! `corten experimental`: commands that istioctl has there.

mod authz;
mod check_inject;
mod describe;
mod precheck;

use std::process::ExitCode;

pub(crate) use authz::Authz;

/// What there is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Experimental {
    /// Say what the mesh does with a pod or service, and what is wrong with it
    #[command(subcommand, visible_alias = "des")]
    Describe(describe::Describe),
    /// Say which policies apply, and whether a call would be allowed
    #[command(subcommand)]
    Authz(Authz),
    /// Say which webhook injects a proxy into a pod, and why the others do not
    CheckInject(check_inject::CheckInject),
    /// Check whether the mesh can be installed or upgraded
    Precheck(precheck::Precheck),
}

impl Experimental {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Describe(describe) => describe.run(),
            Self::Authz(authz) => authz.run(),
            Self::CheckInject(check) => check.run(),
            Self::Precheck(precheck) => precheck.run(),
        }
    }
}
