//! `corten crds`.

use std::process::ExitCode;

use corten_api::crds::{Channel, definitions};

use corten_api::yaml;

use crate::output;

/// Print the definitions of all the custom resources Corten knows, for `kubectl apply -f -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Crds {
    /// The Gateway API's release channel
    #[arg(long, value_enum, default_value = "standard")]
    channel: ChannelName,
    /// Only Istio's, as the chart base brings them
    #[arg(long)]
    istio: bool,
    /// Only the Gateway API's
    #[arg(long, conflicts_with = "istio")]
    gateway_api: bool,
    /// As a JSON list instead of YAML documents
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ChannelName {
    Standard,
    Experimental,
}

impl Crds {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut all = definitions(match self.channel {
            ChannelName::Standard => Channel::Standard,
            ChannelName::Experimental => Channel::Experimental,
        });
        if self.gateway_api {
            all.retain(|definition| definition["spec"]["group"] == "gateway.networking.k8s.io");
        }
        if self.istio {
            all.retain(|definition| {
                definition["spec"]["group"]
                    .as_str()
                    .is_some_and(|group| group.ends_with(".istio.io"))
            });
        }
        if self.json {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": all});
            output::line(serde_json::to_string_pretty(&list)?)?;
        } else {
            let documents: Vec<String> = all.iter().map(yaml::document).collect();
            output::line(documents.join("---\n").trim_end())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use corten_api::decode;

    use super::*;

    #[test]
    fn the_yaml_means_what_the_json_says() {
        for definition in definitions(Channel::Experimental) {
            let text = yaml::document(&definition);
            let (objects, problems) = decode::objects("crds.yaml", &text);
            assert!(problems.is_empty(), "{problems:?}");
            let [object] = &objects[..] else {
                panic!("one document makes one object")
            };
            assert_eq!(object.to_value(), definition);
        }
    }
}
