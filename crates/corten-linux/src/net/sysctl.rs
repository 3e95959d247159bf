//! Kernel settings under `/proc/sys`; those below `net` are the calling thread's network namespace's.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where `net.ipv4.ip_forward` is. An interface name may contain dots, so a name with slashes is taken as a path already.
fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    Path::new("/proc/sys").join(relative)
}

/// Reads a setting.
pub fn sysctl(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim_end().to_owned())
}

/// Writes a setting, unless it has that value: where `/proc/sys` is read-only, a setting that is right is no error.
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = path(name);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim_end() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot set {} to {value}: {error}", path.display()),
        )
    })
}

/// Whether the kernel speaks IPv6 here at all.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists() && sysctl("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value == "0")
}
