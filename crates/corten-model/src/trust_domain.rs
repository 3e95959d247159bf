//! Trust domains that count as the same, in what policies say about principals: `trust-domain/ns/namespace/sa/account`.

/// The usual trust domain; in policies it stands for the mesh's own, whatever that is called.
const USUAL: &str = "cluster.local";

/// The trust domain of a principal; `None`: it is no principal in full.
pub fn of_principal(principal: &str) -> Option<&str> {
    let mut parts = principal.split('/');
    let trust_domain = parts.next()?;
    (parts.count() == 4).then_some(trust_domain)
}

/// Whether a principal asks for a trust domain at all.
pub fn is_asked_for(principal: &str) -> bool {
    principal.split('/').next() != Some("*")
}

/// Whether a name or pattern and one of a list can mean the same; patterns have a `*` at their beginning or end, and may
/// be on either side.
pub fn is_listed(name: &str, list: &[impl AsRef<str>]) -> bool {
    list.iter()
        .map(AsRef::as_ref)
        .any(|listed| name == listed || covers(listed, name) || covers(name, listed))
}

fn covers(pattern: &str, name: &str) -> bool {
    let by_end = pattern.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix));
    by_end || pattern.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
}

/// Principals as they are to be matched: each that is of the mesh's trust domain, or of one that counts as the same, in
/// all of these. `trust_domains` are the mesh's own and then its aliases.
pub fn expand(principals: &[String], trust_domains: &[impl AsRef<str>]) -> Vec<String> {
    let mut expanded = Vec::new();
    for principal in principals {
        let own = of_principal(principal).filter(|_| is_asked_for(principal));
        match own.filter(|own| *own == USUAL || is_listed(own, trust_domains)) {
            Some(own) => expand_one(principal, own, trust_domains, &mut expanded),
            None => expanded.push(principal.clone()),
        }
    }
    expanded
}

fn expand_one(principal: &str, own: &str, trust_domains: &[impl AsRef<str>], expanded: &mut Vec<String>) {
    let identity = principal.get(own.len()..).unwrap_or_default();
    let mut added: Vec<String> = Vec::new();
    for trust_domain in trust_domains {
        // A pattern that covers the trust domain is as good as the trust domain.
        let covered = own
            .strip_prefix('*')
            .is_some_and(|suffix| trust_domain.as_ref().ends_with(suffix));
        let one = if covered {
            principal.to_owned()
        } else {
            format!("{}{identity}", trust_domain.as_ref())
        };
        if !added.contains(&one) {
            added.push(one);
        }
    }
    expanded.append(&mut added);
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn principals_of_the_mesh_are_of_all_its_trust_domains() {
        for (principal, trust_domains, expected) in [
            (
                "cluster.local/ns/a/sa/b",
                ["td", "old"],
                vec!["td/ns/a/sa/b", "old/ns/a/sa/b"],
            ),
            ("*d/ns/a/sa/b", ["td", "x"], vec!["*d/ns/a/sa/b", "x/ns/a/sa/b"]),
            ("*d/ns/a/sa/b", ["td", "old"], vec!["*d/ns/a/sa/b"]),
            ("else/ns/a/sa/b", ["td", "old"], vec!["else/ns/a/sa/b"]),
            ("*/ns/a/sa/b", ["td", "old"], vec!["*/ns/a/sa/b"]),
            ("td/ns/a/*", ["td", "old"], vec!["td/ns/a/*"]),
            ("/ns/a/sa/b", ["td", "old"], vec!["/ns/a/sa/b"]),
            ("", ["td", "old"], vec![""]),
        ] {
            assert_eq!(expand(&[principal.to_owned()], &trust_domains), expected, "{principal}");
        }
    }
}
