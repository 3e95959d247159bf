//! Why the kernel refuses namespaces, and how to change that: the settings of the common distributions.
//!
//! Pure: what it knows of the machine is given to it as text.

/// A setting that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with the setting's name and value.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// The settings that may forbid a user namespace, and what they say now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `kernel.unprivileged_userns_clone` (Debian's older kernels).
    pub unprivileged_clone: Option<String>,
    /// `user.max_user_namespaces`.
    pub user_namespaces_max: Option<String>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu).
    pub apparmor: Option<String>,
    /// Whether the kernel has user namespaces at all.
    pub built_in: bool,
}

impl Settings {
    /// Reads them from `/proc`.
    pub fn read() -> Self {
        let read = |path: &str| Some(std::fs::read_to_string(path).ok()?.trim().to_owned());
        Self {
            unprivileged_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            user_namespaces_max: read("/proc/sys/user/max_user_namespaces"),
            apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            built_in: std::path::Path::new("/proc/self/ns/user").exists(),
        }
    }

    /// The first of them that forbids user namespaces to an ordinary user.
    pub fn refusal(&self) -> Option<Refusal> {
        let setting = |name: &str, value: &str, wanted: &str| Refusal {
            problem: format!("{name} is {value}"),
            remedy: format!(
                "as root: sysctl -w {name}={wanted} (and the same line in /etc/sysctl.d/90-corten.conf to keep it)"
            ),
        };
        if !self.built_in {
            return Some(Refusal {
                problem: "this kernel has no user namespaces (CONFIG_USER_NS)".into(),
                remedy: "run corten as root, or use another kernel".into(),
            });
        }
        if let Some("0") = self.unprivileged_clone.as_deref() {
            return Some(setting("kernel.unprivileged_userns_clone", "0", "1"));
        }
        if let Some("0") = self.user_namespaces_max.as_deref() {
            return Some(setting("user.max_user_namespaces", "0", "65536"));
        }
        match self.apparmor.as_deref() {
            None | Some("0") => None,
            Some(value) => Some(setting("kernel.apparmor_restrict_unprivileged_userns", value, "0")),
        }
    }
}

/// Explains why a process could not be given its namespaces.
pub fn explain(error: &corten_linux::SpawnError) -> Refusal {
    if let Some(refusal) = Settings::read().refusal()
        && !corten_linux::capabilities::may_make_namespaces()
    {
        return Refusal {
            problem: format!("{error}, because {}", refusal.problem),
            remedy: refusal.remedy,
        };
    }
    Refusal {
        problem: error.to_string(),
        remedy: "if this is a container, its seccomp or capability settings forbid it: start it with \
                 --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or run corten outside"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: Settings, names: Option<&str>) {
        let refusal = settings.refusal();
        assert_eq!(refusal.is_some(), names.is_some(), "{refusal:?}");
        if let (Some(refusal), Some(name)) = (refusal, names) {
            assert!(refusal.problem.contains(name), "{refusal:?}");
        }
    }

    fn open() -> Settings {
        Settings {
            built_in: true,
            user_namespaces_max: Some("96365".into()),
            ..Settings::default()
        }
    }

    #[test]
    fn the_setting_in_the_way_is_named() {
        check(open(), None);
        check(
            Settings {
                built_in: false,
                ..open()
            },
            Some("CONFIG_USER_NS"),
        );
        check(
            Settings {
                unprivileged_clone: Some("0".into()),
                ..open()
            },
            Some("kernel.unprivileged_userns_clone"),
        );
        check(
            Settings {
                unprivileged_clone: Some("1".into()),
                ..open()
            },
            None,
        );
        check(
            Settings {
                user_namespaces_max: Some("0".into()),
                ..open()
            },
            Some("user.max_user_namespaces"),
        );
        check(
            Settings {
                apparmor: Some("1".into()),
                ..open()
            },
            Some("kernel.apparmor_restrict_unprivileged_userns"),
        );
        check(
            Settings {
                apparmor: Some("0".into()),
                ..open()
            },
            None,
        );
    }
}
