//! How a container gets the user it asked for. Pure: the kernel's maps and `/etc/passwd` are given as text.

/// The way to the wanted ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Stay what `corten-pod` is: 0 in its user namespace.
    Root {
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Become another user, whose ids exist here.
    Switch {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// The ids do not exist here: live in a nested user namespace in which the only id has the wanted number.
    Nested {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl Identity {
    /// Decides for the ids asked for, in the user namespace with these maps (`/proc/self/uid_map`, `gid_map`).
    ///
    /// Without a group asked for, a user has that of its line in `passwd`, and without one 0, as with any container runtime.
    pub fn choose(asked: (Option<u32>, Option<u32>), groups: &[u32], maps: (&str, &str), passwd: &str) -> Self {
        let uid = asked.0.unwrap_or(0);
        let account = account(passwd, uid);
        let gid = asked.1.unwrap_or_else(|| account.map_or(0, |account| account.gid));
        let groups = groups.iter().copied().filter(|group| maps_to(maps.1, *group)).collect();
        if (uid, gid) == (0, 0) {
            Self::Root { groups }
        } else if maps_to(maps.0, uid) && maps_to(maps.1, gid) {
            Self::Switch { uid, gid, groups }
        } else {
            Self::Nested { uid, gid }
        }
    }

    /// The user as the container sees it.
    pub fn uid(&self) -> u32 {
        match self {
            Self::Root { .. } => 0,
            Self::Switch { uid, .. } | Self::Nested { uid, .. } => *uid,
        }
    }

    /// The group as the container sees it.
    pub fn gid(&self) -> u32 {
        match self {
            Self::Root { .. } => 0,
            Self::Switch { gid, .. } | Self::Nested { gid, .. } => *gid,
        }
    }
}

/// What `/etc/passwd` says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its group.
    pub gid: u32,
    /// Its home directory.
    pub home: &'a str,
}

/// The line of a user in `/etc/passwd`.
pub fn account(passwd: &str, uid: u32) -> Option<Account<'_>> {
    passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, id, gid, _, home, ..] = fields[..] else {
            return None;
        };
        (id.parse() == Ok(uid)).then_some(())?;
        Some(Account {
            gid: gid.parse().ok()?,
            home,
        })
    })
}

/// `passwd` with a line for a user it does not know: programs such as PostgreSQL refuse to run for somebody without a name.
pub fn with_account(passwd: &str, uid: u32, gid: u32) -> Option<String> {
    if account(passwd, uid).is_some() {
        return None;
    }
    let newline = if passwd.is_empty() || passwd.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!(
        "{passwd}{newline}user{uid}:x:{uid}:{gid}:container user:/:/sbin/nologin\n"
    ))
}

/// Whether an id exists in a user namespace with this map (lines of first id inside, first outside, count).
fn maps_to(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first.saturating_add(count)).contains(&u64::from(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";
    const ONE: &str = "         0       1000          1\n";
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:107:113::/var/lib/postgresql:/bin/bash\n";

    #[track_caller]
    fn check(asked: (Option<u32>, Option<u32>), map: &str, expected: Identity) {
        assert_eq!(Identity::choose(asked, &[7], (map, map), PASSWD), expected);
    }

    #[test]
    fn nobody_asked_for_is_root() {
        check((None, None), ALL, Identity::Root { groups: vec![7] });
        check((Some(0), None), ONE, Identity::Root { groups: vec![] });
    }

    #[test]
    fn with_all_ids_the_user_is_switched_to() {
        let (uid, groups) = (107, vec![7]);
        check(
            (Some(uid), None),
            ALL,
            Identity::Switch {
                uid,
                gid: 113,
                groups: groups.clone(),
            },
        );
        check(
            (Some(uid), Some(5)),
            ALL,
            Identity::Switch {
                uid,
                gid: 5,
                groups: groups.clone(),
            },
        );
        check(
            (Some(999), None),
            ALL,
            Identity::Switch {
                uid: 999,
                gid: 0,
                groups,
            },
        );
    }

    #[test]
    fn with_one_id_it_gets_the_wanted_number() {
        check((Some(107), None), ONE, Identity::Nested { uid: 107, gid: 113 });
        check((Some(999), None), ONE, Identity::Nested { uid: 999, gid: 0 });
        check((None, Some(5)), ONE, Identity::Nested { uid: 0, gid: 5 });
    }

    #[test]
    fn an_unknown_user_gets_a_line() {
        assert_eq!(with_account(PASSWD, 107, 0), None);
        let more = with_account("root:x:0:0:root:/root:/bin/bash", 999, 4).unwrap();
        assert_eq!(account(&more, 999), Some(Account { gid: 4, home: "/" }));
        assert_eq!(account(&more, 0), Some(Account { gid: 0, home: "/root" }));
    }
}
