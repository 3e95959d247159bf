//! Texts of `iptables-restore` and `nft` as the rule sets they make, so that two texts can be compared by what they do.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Chains to their rules in order; each rule its matches (sorted: all have to hold) and what it does.
type Chains = BTreeMap<String, Vec<String>>;

/// What inputs of `iptables-restore` make: a table for each block, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Iptables(Vec<(String, Chains)>);

impl Iptables {
    /// Reads blocks of `* table ... COMMIT`; other lines are commands around them.
    pub(crate) fn parse(text: &str) -> Result<Iptables> {
        let mut all = Iptables::default();
        let mut open: Option<(String, Chains)> = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('*') {
                open = Some((name.trim().to_owned(), Chains::new()));
                continue;
            }
            let Some((_, chains)) = open.as_mut() else { continue };
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            match command {
                "COMMIT" => all.0.extend(open.take()),
                "-N" => drop(chains.insert(rest.to_owned(), Vec::new())),
                "-A" => {
                    let (chain, rule) = rest.split_once(' ').context("a rule without a chain")?;
                    chains.entry(chain.to_owned()).or_default().push(options(rule));
                }
                "-I" => {
                    let (chain, rest) = rest.split_once(' ').context("a rule without a chain")?;
                    let (place, rule) = rest.split_once(' ').context("a rule without a place")?;
                    let rules = chains.entry(chain.to_owned()).or_default();
                    let place = place.parse::<usize>()?.saturating_sub(1).min(rules.len());
                    rules.insert(place, options(rule));
                }
                _ => bail!("{line:?} is no command known here"),
            }
        }
        Ok(all)
    }

    /// What differs, if anything does.
    pub(crate) fn difference(&self, expected: &Iptables) -> Option<String> {
        let names = |set: &Iptables| set.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if names(self) != names(expected) {
            return Some(format!("tables {:?}, expected {:?}", names(self), names(expected)));
        }
        let pairs = self.0.iter().zip(&expected.0);
        pairs
            .filter_map(|((name, ours), (_, theirs))| chains_differ(name, ours, theirs))
            .next()
    }
}

/// The options of a rule, each with its values, sorted; their order means nothing.
fn options(rule: &str) -> String {
    let mut groups: Vec<String> = Vec::new();
    let mut negated = false;
    for word in rule.split_whitespace() {
        // Both are spellings of one option.
        let word = if word == "--to-port" { "--to-ports" } else { word };
        if word == "!" {
            negated = true;
        } else if word.starts_with('-') {
            groups.push(if std::mem::take(&mut negated) {
                format!("! {word}")
            } else {
                word.to_owned()
            });
        } else if let Some(last) = groups.last_mut() {
            last.push(' ');
            last.push_str(word);
        }
    }
    groups.sort();
    groups.join(" ")
}

/// What commands of `nft` make.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Nftables {
    tables: BTreeMap<String, Chains>,
    sets: Vec<String>,
}

impl Nftables {
    /// Reads `add|insert|flush table|chain|rule|set ...`, one command a line.
    pub(crate) fn parse(text: &str) -> Result<Nftables> {
        let mut all = Nftables::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            all.command(line).with_context(|| format!("{line:?}"))?;
        }
        Ok(all)
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [verb, kind, family, table, rest @ ..] = &words[..] else {
            bail!("too short");
        };
        let table = self.tables.entry(format!("{family} {table}")).or_default();
        match (*verb, *kind, rest) {
            ("add", "table", _) => {}
            ("flush", "table", _) => table.values_mut().for_each(Vec::clear),
            ("add", "chain", [name, hook @ ..]) => {
                // A base chain is one that hangs elsewhere too.
                table.insert([&[*name], &base(hook)[..]].concat().join(" "), Vec::new());
            }
            ("add", "set", _) => self.sets.push(words.join(" ")),
            ("add", "rule", [chain, rule @ ..]) => rules(table, chain)?.push(statements(rule)),
            ("insert", "rule", [chain, "index", place, rule @ ..]) => {
                let rules = rules(table, chain)?;
                let place: usize = place.parse()?;
                if place >= rules.len() {
                    bail!("there is no rule {place} to insert before");
                }
                rules.insert(place, statements(rule));
            }
            _ => bail!("no command known here"),
        }
        Ok(())
    }

    /// What differs, if anything does.
    pub(crate) fn difference(&self, expected: &Nftables) -> Option<String> {
        let names = |set: &Nftables| set.tables.keys().cloned().collect::<Vec<_>>();
        if names(self) != names(expected) {
            return Some(format!("tables {:?}, expected {:?}", names(self), names(expected)));
        }
        if self.sets != expected.sets {
            return Some(format!("sets {:?}, expected {:?}", self.sets, expected.sets));
        }
        let mut pairs = self.tables.iter().zip(expected.tables.values());
        pairs.find_map(|((name, ours), theirs)| chains_differ(name, ours, theirs))
    }
}

/// The rules of a chain that was added, whatever its hook.
fn rules<'a>(table: &'a mut Chains, chain: &str) -> Result<&'a mut Vec<String>> {
    let mut found = table
        .iter_mut()
        .filter(|(name, _)| name.split(' ').next() == Some(chain));
    let (_, rules) = found.next().with_context(|| format!("chain {chain} was not added"))?;
    Ok(rules)
}

/// `type T hook H priority P`, priorities by number; a policy of accept is the default.
fn base<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut rest = words.iter().copied().filter(|word| !matches!(*word, "{" | "}" | ";"));
    while let Some(word) = rest.next() {
        match word.trim_end_matches(';') {
            "policy" => drop(rest.next()),
            "raw" => kept.push("-300"),
            "mangle" => kept.push("-150"),
            "dstnat" => kept.push("-100"),
            "filter" if kept.last() == Some(&"priority") => kept.push("0"),
            "srcnat" => kept.push("100"),
            other => kept.push(other),
        }
    }
    kept
}

/// A rule's matches, sorted, and what follows its counter in order.
fn statements(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| spelling(word)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let mut end = words.len();
    for (index, word) in words.iter().enumerate() {
        if *word == "counter" {
            end = index;
            break;
        }
        let continues = match (groups.last().and_then(|group| group.last()), *word) {
            (Some(&"meta" | &"tproxy"), _) => true,
            (Some(&"ct"), "mark" | "state") => true,
            (_, "iifname" | "oifname" | "ip" | "ip6" | "tcp" | "udp" | "meta" | "mark" | "skuid" | "skgid") => false,
            (_, "ct" | "tproxy" | "jump") => false,
            _ => true,
        };
        match groups.last_mut().filter(|_| continues) {
            Some(group) => group.push(word),
            None => groups.push(vec![word]),
        }
    }
    let mut matches: Vec<String> = groups
        .into_iter()
        .map(|group| {
            // `meta` may be left out, and `==` may.
            let group = group.iter().filter(|word| !matches!(**word, "meta" | "=="));
            group.copied().collect::<Vec<_>>().join(" ")
        })
        .collect();
    // A port of TCP is TCP.
    if matches.iter().any(|m| m.starts_with("tcp ")) {
        matches.retain(|m| m != "l4proto tcp");
    }
    matches.sort();
    let then = words.get(end..).unwrap_or_default().join(" ");
    format!("{} {}", matches.join(" "), bits(&then)).trim().to_owned()
}

/// One word in one spelling: numbers decimal, names without quotes, single addresses without a length.
fn spelling(word: &str) -> String {
    let word = word.trim_matches('"');
    if word == "and" {
        return "&".into();
    }
    if let Some(number) = word
        .strip_prefix("0x")
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
    {
        return number.to_string();
    }
    let single = word.strip_suffix("/32").or_else(|| word.strip_suffix("/128"));
    single.unwrap_or(word).to_owned()
}

/// `x & keep | set`: a bit that is set need not be kept first.
fn bits(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for index in 0..words.len().saturating_sub(3) {
        if words[index] == "&"
            && words[index + 2] == "|"
            && let (Ok(keep), Ok(set)) = (words[index + 1].parse::<u32>(), words[index + 3].parse::<u32>())
        {
            words[index + 1] = (keep & !set).to_string();
        }
    }
    words.join(" ")
}

fn chains_differ(table: &str, ours: &Chains, theirs: &Chains) -> Option<String> {
    let names = |chains: &Chains| chains.keys().cloned().collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Some(format!(
            "{table}: chains {:?}, expected {:?}",
            names(ours),
            names(theirs)
        ));
    }
    for (chain, rules) in ours {
        let expected = theirs.get(chain).map(Vec::as_slice).unwrap_or_default();
        if rules.as_slice() != expected {
            let at = (0..rules.len().max(expected.len())).find(|index| rules.get(*index) != expected.get(*index))?;
            return Some(format!(
                "{table} {chain} rule {at}: {:?}, expected {:?}",
                rules.get(at),
                expected.get(at)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "add table inet t\nadd chain inet t c { type nat hook output priority -100 ; }\n";

    #[track_caller]
    fn nft(ours: &str, theirs: &str) -> Option<String> {
        let parse = |rule: &str| Nftables::parse(&format!("{OURS}add rule inet t c {rule}\n")).unwrap();
        parse(ours).difference(&parse(theirs))
    }

    #[test]
    fn spellings_that_mean_the_same() {
        let same = [
            (
                "mark and 0xfff  != 0x539 counter accept",
                "meta mark & 0x00000fff != 0x00000539 counter accept",
            ),
            (
                "oifname lo ip daddr != 127.0.0.1/32 counter accept",
                "ip daddr != 127.0.0.1 oifname \"lo\" counter accept",
            ),
            (
                "counter ct mark set ct mark & 0xfffff000 |  0x111",
                "counter ct mark set ct mark & 0xfffff111 | 0x00000111",
            ),
        ];
        for (ours, theirs) in same {
            assert_eq!(nft(ours, theirs), None);
        }
    }

    #[test]
    fn what_differs_is_found() {
        let different = [
            ("tcp dport 53 counter accept", "tcp dport 54 counter accept"),
            ("tcp dport 53 counter accept", "udp dport 53 counter accept"),
            ("mark 1 counter accept", "mark != 1 counter accept"),
            ("counter redirect to :1", "counter redirect to :2"),
            ("mark & 0xfff == 0x539 counter accept", "mark 0x539 counter accept"),
        ];
        for (ours, theirs) in different {
            assert!(nft(ours, theirs).is_some(), "{ours} is not {theirs}");
        }
        let table = |rules: &str| Iptables::parse(&format!("* nat\n-N X\n{rules}COMMIT\n")).unwrap();
        let order = table("-A X -j A\n-A X -j B\n").difference(&table("-A X -j B\n-A X -j A\n"));
        assert!(order.is_some(), "the order of rules counts");
        let inserted = table("-A X -j B\n-I X 1 -j A\n").difference(&table("-A X -j A\n-A X -j B\n"));
        assert_eq!(inserted, None);
        let negated = table("-A X ! -d 1.1.1.1 -p tcp -j A\n").difference(&table("-A X -d 1.1.1.1 ! -p tcp -j A\n"));
        assert!(negated.is_some());
    }
}
