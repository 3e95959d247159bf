//! Which capabilities a container keeps. Pure: names in, a set out.

use rustix::thread::CapabilitySet;

/// What containers usually have: enough to be root among their own files, users and ports, and not over the machine.
const USUAL: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// All of them, by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set a container keeps, or the name that means nothing.
///
/// `drop: [ALL]` leaves what `add` names; `add: [ALL]` is everything but what `drop` names.
pub fn kept(privileged: bool, add: &[String], drop: &[String]) -> Result<CapabilitySet, String> {
    let everything = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let (added, dropped) = (set_of(add)?, set_of(drop)?);
    if privileged || (everything(add) && !everything(drop)) {
        return Ok(if privileged { all() } else { all() - dropped });
    }
    let usual = USUAL.iter().filter_map(|name| bit(name));
    let start = if everything(drop) {
        CapabilitySet::empty()
    } else {
        usual.fold(CapabilitySet::empty(), |sum, bit| sum | bit) - dropped
    };
    Ok(start | added)
}

/// The capabilities that exist by number.
pub fn numbered() -> impl Iterator<Item = CapabilitySet> {
    (0..NAMES.len()).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

fn all() -> CapabilitySet {
    numbered().fold(CapabilitySet::empty(), |sum, bit| sum | bit)
}

fn set_of(names: &[String]) -> Result<CapabilitySet, String> {
    let mut set = CapabilitySet::empty();
    for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set |= bit(name).ok_or_else(|| name.clone())?;
    }
    Ok(set)
}

fn bit(name: &str) -> Option<CapabilitySet> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == short)?;
    Some(CapabilitySet::from_bits_retain(1 << number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(privileged: bool, add: &[&str], drop: &[&str], expected: CapabilitySet) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(kept(privileged, &owned(add), &owned(drop)), Ok(expected));
    }

    #[test]
    fn names_have_the_kernel_s_numbers() {
        for (name, set) in [
            ("SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            ("NET_ADMIN", CapabilitySet::NET_ADMIN),
            ("SETFCAP", CapabilitySet::SETFCAP),
            ("CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE),
            ("cap_mknod", CapabilitySet::MKNOD),
        ] {
            assert_eq!(bit(name), Some(set), "{name}");
        }
    }

    #[test]
    fn additions_and_drops_are_relative_to_the_usual_set() {
        let usual = kept(false, &[], &[]).unwrap();
        assert!(usual.contains(CapabilitySet::NET_BIND_SERVICE) && !usual.contains(CapabilitySet::SYS_ADMIN));
        check(false, &["NET_ADMIN"], &[], usual | CapabilitySet::NET_ADMIN);
        check(false, &["NET_ADMIN"], &["ALL"], CapabilitySet::NET_ADMIN);
        check(false, &[], &["CHOWN"], usual - CapabilitySet::CHOWN);
        check(false, &["ALL"], &["SYS_ADMIN"], all() - CapabilitySet::SYS_ADMIN);
        check(true, &[], &["CHOWN"], all());
    }

    #[test]
    fn an_unknown_name_is_reported() {
        assert_eq!(kept(false, &["NET_ADMN".to_owned()], &[]), Err("NET_ADMN".to_owned()));
    }
}
