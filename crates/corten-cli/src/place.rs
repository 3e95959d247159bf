//! Which instance a command is about, and where instances live.

use std::path::{Path, PathBuf};

use corten_local::instance::{DEFAULT_NAME, Instance, InstanceError, state_home};

/// The flag that names an instance.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Name {
    /// Which instance; several can run side by side
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    name: String,
}

impl Name {
    /// The instance.
    pub(crate) fn instance(&self) -> Result<Instance, InstanceError> {
        Instance::new(&home()?, &self.name)
    }
}

/// The directory of all instances.
pub(crate) fn home() -> Result<PathBuf, InstanceError> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let (xdg, home) = (variable("XDG_STATE_HOME"), variable("HOME"));
    state_home(xdg.as_deref(), home.as_deref())
}

/// A path as a word of a shell command.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(shell_word(Path::new("/home/me/.local/state")), "/home/me/.local/state");
        assert_eq!(shell_word(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
