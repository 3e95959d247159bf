//! Istio's own programs in place of halves of the mesh, when they are given by path, and what is then known to be otherwise.

use std::path::PathBuf;

/// A half of the mesh that may be Istio's own program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The node proxy: the path of a ztunnel in `CORTEN_STOCK_ZTUNNEL`.
    Ztunnel,
    /// The control plane: the path of a pilot-discovery in `CORTEN_STOCK_ISTIOD`.
    Istiod,
}

impl Half {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ztunnel, Self::Istiod];

    /// What it is called, in flags of `corten up` too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ztunnel => "ztunnel",
            Self::Istiod => "istiod",
        }
    }

    /// The program that was given for it.
    pub fn program(self) -> Option<PathBuf> {
        let variable = format!("CORTEN_STOCK_{}", self.name().to_uppercase());
        std::env::var_os(variable)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }
}

/// A scenario that asks for more than Istio's program for a half does.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Its name.
    pub scenario: &'static str,
    /// Whose program does less.
    pub half: Half,
    /// What it does instead.
    pub why: &'static str,
}

impl Difference {
    /// The difference that explains why this scenario fails in this run.
    pub(crate) fn find<'a>(all: &'a [Self], scenario: &str) -> Option<&'a Self> {
        all.iter()
            .find(|it| it.scenario == scenario && it.half.program().is_some())
    }
}

/// The flags of `corten up` for the programs that were given.
pub(crate) fn flags() -> Vec<String> {
    let given = Half::ALL.into_iter().filter_map(|half| Some((half, half.program()?)));
    given
        .flat_map(|(half, program)| [format!("--{}", half.name()), program.display().to_string()])
        .collect()
}
