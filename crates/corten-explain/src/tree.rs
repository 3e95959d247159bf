//! Trees of matchers that choose a filter chain, as far as Istio's listeners have them.

use std::net::IpAddr;

use corten_envoy::IpMatcher;
use corten_envoy::google::protobuf::StringValue;
use corten_envoy::prost::Message as _;
use corten_envoy::xds::core::v3::TypedExtensionConfig;
use corten_envoy::xds::r#type::matcher::v3::{
    Matcher,
    matcher::{
        MatcherList, MatcherTree, MatcherType, OnMatch,
        matcher_list::{
            Predicate,
            predicate::{MatchType, SinglePredicate, single_predicate},
        },
        matcher_tree::TreeType,
        on_match,
    },
    string_matcher::MatchPattern,
};
use ipnet::IpNet;

use crate::facts::Facts;
use crate::regexes::matches_fully;
use crate::trace::ListenerMatched;

/// What a tree names, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The filter chain.
    pub(crate) name: String,
    /// The inputs on the way and their values.
    pub(crate) because: String,
}

/// How deep a tree may be.
const DEPTH_MAX: usize = 32;

/// What the tree names for a connection; `None`: nothing.
///
/// # Errors
///
/// The tree has something that is not known here; in words.
pub(crate) fn evaluate(matcher: &Matcher, seen: &ListenerMatched, facts: &Facts) -> Result<Option<Named>, String> {
    let mut steps = Vec::new();
    let found = Walk { seen, facts }.matcher(matcher, &mut steps, 0)?;
    Ok(found.map(|name| Named {
        name,
        because: steps.join("; "),
    }))
}

struct Walk<'a> {
    seen: &'a ListenerMatched,
    facts: &'a Facts,
}

impl Walk<'_> {
    fn matcher(&self, matcher: &Matcher, steps: &mut Vec<String>, depth: usize) -> Result<Option<String>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("the matcher is deeper than {DEPTH_MAX}"));
        }
        let before = steps.len();
        let found = match &matcher.matcher_type {
            None => None,
            Some(MatcherType::MatcherList(list)) => self.list(list, steps, depth)?,
            Some(MatcherType::MatcherTree(tree)) => self.tree(tree, steps, depth)?,
        };
        if found.is_some() {
            return Ok(found);
        }
        steps.truncate(before);
        match &matcher.on_no_match {
            None => Ok(None),
            Some(otherwise) => self.on_match(otherwise, steps, depth),
        }
    }

    fn on_match(&self, on_match: &OnMatch, steps: &mut Vec<String>, depth: usize) -> Result<Option<String>, String> {
        match &on_match.on_match {
            None => Ok(None),
            Some(on_match::OnMatch::Matcher(inner)) => self.matcher(inner, steps, depth + 1),
            Some(on_match::OnMatch::Action(action)) => {
                let config = action.typed_config.as_ref();
                let name = config
                    .and_then(|any| StringValue::decode(&any.value[..]).ok())
                    .map(|name| name.value);
                Ok(Some(
                    name.filter(|name| !name.is_empty())
                        .unwrap_or_else(|| action.name.clone()),
                ))
            }
        }
    }

    fn list(&self, list: &MatcherList, steps: &mut Vec<String>, depth: usize) -> Result<Option<String>, String> {
        for field in &list.matchers {
            let (Some(predicate), Some(on_match)) = (&field.predicate, &field.on_match) else {
                continue;
            };
            if let Some(step) = self.predicate(predicate, depth)? {
                steps.push(step);
                // The first predicate that holds decides, even if what it leads to names nothing.
                return self.on_match(on_match, steps, depth);
            }
        }
        Ok(None)
    }

    /// What made the predicate hold; `None`: it does not.
    fn predicate(&self, predicate: &Predicate, depth: usize) -> Result<Option<String>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("the matcher is deeper than {DEPTH_MAX}"));
        }
        match &predicate.match_type {
            None => Ok(None),
            Some(MatchType::SinglePredicate(single)) => self.single(single),
            Some(MatchType::OrMatcher(list)) => {
                for inner in &list.predicate {
                    if let Some(step) = self.predicate(inner, depth + 1)? {
                        return Ok(Some(step));
                    }
                }
                Ok(None)
            }
            Some(MatchType::AndMatcher(list)) => {
                let mut all = Vec::new();
                for inner in &list.predicate {
                    match self.predicate(inner, depth + 1)? {
                        Some(step) => all.push(step),
                        None => return Ok(None),
                    }
                }
                Ok(Some(all.join(" and ")))
            }
            Some(MatchType::NotMatcher(inner)) => Ok(match self.predicate(inner, depth + 1)? {
                Some(_) => None,
                None => Some("not so".to_owned()),
            }),
        }
    }

    fn single(&self, single: &SinglePredicate) -> Result<Option<String>, String> {
        let (name, value) = self.input(single.input.as_ref())?;
        let Some(value) = value else { return Ok(None) };
        let yes = match &single.matcher {
            Some(single_predicate::Matcher::ValueMatch(string)) => {
                let (folded, fold) = if string.ignore_case {
                    (value.to_ascii_lowercase(), true)
                } else {
                    (value.clone(), false)
                };
                let wanted = |text: &String| if fold { text.to_ascii_lowercase() } else { text.clone() };
                match &string.match_pattern {
                    Some(MatchPattern::Exact(text)) => folded == wanted(text),
                    Some(MatchPattern::Prefix(text)) => folded.starts_with(&wanted(text)),
                    Some(MatchPattern::Suffix(text)) => folded.ends_with(&wanted(text)),
                    Some(MatchPattern::Contains(text)) => folded.contains(&wanted(text)),
                    Some(MatchPattern::SafeRegex(regex)) => {
                        let regex = corten_envoy::envoy::r#type::matcher::v3::RegexMatcher {
                            regex: regex.regex.clone(),
                            engine_type: None,
                        };
                        matches_fully(&regex, &value)?
                    }
                    Some(MatchPattern::Custom(_)) | None => return Err("a matcher of texts is an extension".to_owned()),
                }
            }
            Some(single_predicate::Matcher::CustomMatch(custom)) => {
                return Err(format!("the matcher {:?} is an extension", custom.name));
            }
            None => false,
        };
        Ok(yes.then(|| format!("{name} {value}")))
    }

    fn tree(&self, tree: &MatcherTree, steps: &mut Vec<String>, depth: usize) -> Result<Option<String>, String> {
        let (name, value) = self.input(tree.input.as_ref())?;
        let Some(value) = value else { return Ok(None) };
        match &tree.tree_type {
            None => Ok(None),
            Some(TreeType::ExactMatchMap(map)) => match map.map.get(&value) {
                None => Ok(None),
                Some(on_match) => {
                    steps.push(format!("{name} {value}"));
                    self.on_match(on_match, steps, depth)
                }
            },
            Some(TreeType::PrefixMatchMap(map)) => {
                let longest = map
                    .map
                    .iter()
                    .filter(|(prefix, _)| value.starts_with(*prefix))
                    .max_by_key(|(prefix, _)| prefix.len());
                match longest {
                    None => Ok(None),
                    Some((prefix, on_match)) => {
                        steps.push(format!("{name} {value} with prefix {prefix:?}"));
                        self.on_match(on_match, steps, depth)
                    }
                }
            }
            Some(TreeType::CustomMatch(custom)) => self.ranges(custom, &name, &value, steps, depth),
        }
    }

    /// A tree by ranges of addresses: the longest range first, and the next one if it names nothing.
    fn ranges(
        &self,
        custom: &TypedExtensionConfig,
        name: &str,
        value: &str,
        steps: &mut Vec<String>,
        depth: usize,
    ) -> Result<Option<String>, String> {
        let Some(any) = &custom.typed_config else {
            return Err(format!("the matcher {:?} is empty", custom.name));
        };
        if corten_envoy::type_name(&any.type_url) != "xds.type.matcher.v3.IPMatcher" {
            return Err(format!(
                "the matcher {:?} is an extension",
                corten_envoy::type_name(&any.type_url)
            ));
        }
        let matcher =
            IpMatcher::decode(&any.value[..]).map_err(|error| format!("a matcher of addresses is broken: {error}"))?;
        let Ok(address) = value.parse::<IpAddr>() else {
            return Ok(None);
        };
        let mut fitting = Vec::new();
        for range_matcher in &matcher.range_matchers {
            for range in &range_matcher.ranges {
                let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
                let network = range
                    .address_prefix
                    .parse()
                    .ok()
                    .and_then(|address: IpAddr| IpNet::new(address, u8::try_from(length).ok()?).ok());
                if let Some(network) = network.filter(|network| network.contains(&address)) {
                    fitting.push((network, range_matcher));
                }
            }
        }
        fitting.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        for (network, range_matcher) in fitting {
            let Some(on_match) = &range_matcher.on_match else {
                continue;
            };
            let before = steps.len();
            steps.push(format!("{name} {address} in {network}"));
            let found = self.on_match(on_match, steps, depth)?;
            if found.is_some() || range_matcher.exclusive {
                return Ok(found);
            }
            steps.truncate(before);
        }
        Ok(None)
    }

    /// An input's name for people and its value.
    fn input(&self, input: Option<&TypedExtensionConfig>) -> Result<(String, Option<String>), String> {
        let any = input
            .and_then(|input| input.typed_config.as_ref())
            .ok_or("a matcher has no input")?;
        let full = corten_envoy::type_name(&any.type_url);
        let kind = full.rsplit('.').next().unwrap_or_default();
        let seen = self.seen;
        let found = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (name, value) = match kind {
            "DestinationIPInput" => ("address", Some(self.facts.destination.ip().to_string())),
            "DestinationPortInput" => ("port", Some(self.facts.destination.port().to_string())),
            "SourceIPInput" | "DirectSourceIPInput" => ("source", Some(self.facts.source.ip().to_string())),
            "SourcePortInput" => ("source port", Some(self.facts.source.port().to_string())),
            "SourceTypeInput" => {
                let local =
                    self.facts.source.ip().is_loopback() || self.facts.source.ip() == self.facts.destination.ip();
                ("kind of source", local.then(|| "local".to_owned()))
            }
            "ServerNameInput" => ("server name", found(&seen.server_name)),
            "TransportProtocolInput" => ("transport", found(&seen.transport)),
            "ApplicationProtocolInput" => {
                // Envoy shows them as 'h2','http/1.1'.
                let quoted: Vec<String> = seen.protocols.iter().map(|protocol| format!("'{protocol}'")).collect();
                ("application protocol", found(&quoted.join(",")))
            }
            "UriSanInput" => ("identity", found(&self.facts.peer_uris().join(","))),
            "FilterStateInput" => {
                let input =
                    corten_envoy::envoy::extensions::matching::common_inputs::network::v3::FilterStateInput::decode(
                        &any.value[..],
                    )
                    .map_err(|error| format!("an input is broken: {error}"))?;
                let value = self.facts.state.get(&input.key).map(|noted| noted.value.clone());
                return Ok((input.key, value));
            }
            other => return Err(format!("the input {other} is not known here")),
        };
        Ok((name.to_owned(), value))
    }
}
