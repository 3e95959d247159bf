//! Which of its tasks the program is started for: its command line is that of the program in Istio's proxy images.

use std::ffi::OsString;

use clap::Parser as _;

use crate::redirect::Redirection;
use crate::request::{Request, Wait};
use crate::settings::Arguments;

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Command {
    /// Run Envoy.
    Run(Box<Arguments>),
    /// Lead the pod's connections through the proxy.
    Redirect(Box<Redirection>),
    /// Wait until the proxy beside is ready.
    Wait(Wait),
    /// Ask the proxy beside for something.
    Request(Request),
}

impl Command {
    /// Reads the command line, the program's name first.
    ///
    /// # Errors
    ///
    /// What `clap` says about it, help among that.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        // Flags may stand before the task: an image's own come first.
        let task = (1..words.len()).find(|index| !words[*index].to_string_lossy().starts_with('-'));
        let Some(index) = task else {
            return Ok(Command::Run(Box::new(Arguments::try_parse_from(words)?)));
        };
        let name = words[index].to_string_lossy().into_owned();
        let own = |words: &[OsString]| words[index..].to_vec();
        Ok(match name.as_str() {
            "istio-iptables" => Command::Redirect(Box::new(Redirection::try_parse_from(own(&words))?)),
            "wait" => Command::Wait(Wait::try_parse_from(own(&words))?),
            "request" => Command::Request(Request::try_parse_from(own(&words))?),
            _ => {
                if name == "proxy" {
                    words.remove(index);
                }
                Command::Run(Box::new(Arguments::try_parse_from(words)?))
            }
        })
    }

    /// How much is to be said, as `RUST_LOG` has it.
    pub fn log_levels(&self) -> Option<String> {
        let levels = match self {
            Command::Run(arguments) => arguments.log_output_level.as_deref(),
            Command::Redirect(flags) => flags.log_output_level.as_deref(),
            Command::Wait(_) | Command::Request(_) => None,
        }?;
        // Istio's `default:LEVEL` is that level for everything; further scopes of its are passed over.
        let level = levels.split(',').find_map(|part| match part.split_once(':') {
            Some(("default" | "all", level)) => Some(level),
            Some(_) => None,
            None => Some(part),
        });
        Some(match level.unwrap_or("info") {
            "none" => "off".to_owned(),
            "fatal" => "error".to_owned(),
            "warning" => "warn".to_owned(),
            level => level.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Kind;

    fn parse(line: &str) -> Command {
        let words = ["corten-sidecar"].into_iter().chain(line.split_whitespace());
        Command::parse(words.map(OsString::from)).unwrap()
    }

    #[test]
    fn istios_command_lines_are_understood() {
        let injected = "--envoy=/opt/envoy proxy sidecar --domain shop.svc.cluster.local --proxyLogLevel=warning \
             --proxyComponentLogLevel=misc:error --log_output_level=default:debug";
        let command = parse(injected);
        assert_eq!(command.log_levels().as_deref(), Some("debug"));
        let Command::Run(arguments) = command else {
            panic!("it runs");
        };
        assert_eq!(arguments.kind, Kind::Sidecar);
        assert_eq!(arguments.envoy.as_deref(), Some(Path::new("/opt/envoy")));
        assert_eq!(arguments.domain.as_deref(), Some("shop.svc.cluster.local"));
        let deployed = "--envoy=/opt/envoy proxy waypoint --domain shop.svc.cluster.local --serviceCluster waypoint.shop --proxyLogLevel \
             warning --proxyComponentLogLevel misc:error --log_output_level default:info --log_as_json";
        let Command::Run(arguments) = parse(deployed) else {
            panic!("it runs");
        };
        assert_eq!(arguments.kind, Kind::Waypoint);
        assert_eq!(arguments.service_cluster.as_deref(), Some("waypoint.shop"));
        assert!(matches!(parse("router --envoy envoy"), Command::Run(of) if of.kind == Kind::Router));
        assert!(matches!(parse(""), Command::Run(of) if of.kind == Kind::Sidecar));
        assert!(matches!(parse("wait"), Command::Wait(_)));
        assert!(matches!(
            parse("request --debug-port=15020 POST drain"),
            Command::Request(_)
        ));
    }
}
