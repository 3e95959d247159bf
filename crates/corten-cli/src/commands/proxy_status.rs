//! `corten proxy-status`: which proxies each control plane serves, and whether they have taken what it sent; istioctl's words and tables.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use corten_apiserver::human_span;
use corten_inspect::compare::compare;
use corten_inspect::envoy::Dump;
use corten_inspect::statuses::{self, Proxy, Said};
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{Cluster, Connection, Envoy, query, ready_first, split_name};
use crate::commands::read_file;
use crate::output;
use corten_api::yaml;

/// Show which proxies the control plane serves, and whether they have taken what it sent
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyStatus {
    #[command(flatten)]
    connection: Connection,
    /// Only this proxy, and how what it has differs from what the control plane holds for it
    #[arg(value_name = "NAME[.NAMESPACE]")]
    proxy: Option<String>,
    /// What the proxy has, from a dump that was saved before; - for standard input
    #[arg(short, long, value_name = "FILE", requires = "proxy")]
    file: Option<PathBuf>,
    /// The port of Envoy's administration
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin_port: u16,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
    /// 1 shows the state of each type
    #[arg(short, long, value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
    /// The namespace of the mesh's parts
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// Only control planes of this revision
    #[arg(short, long)]
    revision: Option<String>,
    /// The port of the control plane's debug endpoints
    #[arg(long, value_name = "PORT", default_value_t = 15014)]
    monitoring_port: u16,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    #[value(alias = "short")]
    Table,
    Json,
    Yaml,
}

impl ProxyStatus {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (said, differences) = self.connection.run(async |cluster| {
            let mut said = self.ask(&cluster).await?;
            let namespace = self.connection.named_namespace();
            for it in &mut said {
                it.proxies.retain(|proxy| self.is_meant(proxy, namespace));
            }
            let is_one = self.proxy.is_some() && self.output == Form::Table;
            let differences = if is_one {
                self.compared(&cluster, &said).await?
            } else {
                None
            };
            Ok((said, differences))
        })?;
        if let Some(proxy) = &self.proxy
            && said.iter().all(|it| it.proxies.is_empty())
        {
            bail!("no control plane serves a proxy {proxy}; `corten proxy-status` shows those that are served");
        }
        output::text(match self.output {
            Form::Table => {
                let now = Timestamp::now().as_second();
                let age = |at: Timestamp| human_span(now - at.as_second());
                let table = if self.verbosity == 0 {
                    statuses::table(&said)
                } else {
                    statuses::verbose(&said, &age)
                };
                table + &statuses::refusals(&said) + &differences.unwrap_or_default()
            }
            Form::Json => said
                .iter()
                .map(|it| output::json(&statuses::in_form(&statuses::response(it))))
                .collect::<Result<String, _>>()?,
            Form::Yaml => said.iter().map(|it| yaml::document(&statuses::response(it))).collect(),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn is_meant(&self, proxy: &Proxy, namespace: Option<&str>) -> bool {
        let (own, of) = split_name(&proxy.name);
        let (wanted, given) = self.proxy.as_deref().map_or((None, None), |word| {
            let (name, namespace) = split_name(word);
            (Some(name), namespace)
        });
        wanted.is_none_or(|wanted| wanted == own) && given.or(namespace).is_none_or(|it| Some(it) == of)
    }

    /// How what the one proxy that is meant has differs from what its control plane holds; nothing where none or several are.
    async fn compared(&self, cluster: &Cluster, said: &[Said]) -> Result<Option<String>> {
        let mut served = said
            .iter()
            .flat_map(|it| it.proxies.iter().map(move |proxy| (it, proxy)));
        let (Some((of, proxy)), None) = (served.next(), served.next()) else {
            return Ok(None);
        };
        let has = |last: &str| proxy.types.keys().any(|kind| kind.ends_with(last));
        if !has(".Cluster") && !has(".Listener") {
            return Ok(Some(
                "\nA diff is not available for node proxies; `corten ztunnel-config all` shows what they know.\n"
                    .to_owned(),
            ));
        }
        let path = format!("/debug/config_dump{}", query(&[("proxyID", Some(proxy.name.clone()))]));
        let system = &self.istio_namespace;
        let answer = cluster
            .ask_pod(system, &of.istiod, self.monitoring_port, Method::GET, &path)
            .await?;
        ensure!(
            answer.status.is_success(),
            "control plane {} answers {} when asked what it holds for {}: {}",
            of.istiod,
            answer.status,
            proxy.name,
            String::from_utf8_lossy(&answer.body).trim()
        );
        let control =
            Dump::parse(&answer.body).with_context(|| format!("reading what control plane {} holds", of.istiod))?;
        let own = match &self.file {
            Some(file) => read_file(file)?.into(),
            None => {
                let envoy = Envoy::find(cluster, &proxy.name, self.proxy_admin_port).await?;
                envoy.ask(cluster, Method::GET, "/config_dump").await?
            }
        };
        let own = Dump::parse(&own).with_context(|| format!("reading what proxy {} has", proxy.name))?;
        Ok(Some(format!("\n{}", compare(&control, &own))))
    }

    async fn ask(&self, cluster: &Cluster) -> Result<Vec<Said>> {
        let system = &self.istio_namespace;
        let revision = self
            .revision
            .as_ref()
            .map(|it| format!(",istio.io/rev={it}"))
            .unwrap_or_default();
        let selector = query(&[("labelSelector", Some(format!("app=istiod{revision}")))]);
        let pods = cluster
            .get(&format!("/api/v1/namespaces/{system}/pods{selector}"))
            .await?;
        let running =
            |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
        let pods = pods["items"].as_array().into_iter().flatten();
        let pods = ready_first(pods.filter(running).cloned().collect());
        ensure!(
            !pods.is_empty(),
            "no control plane runs in namespace {system}: is the mesh in another one (-i), or not installed?"
        );
        let mut said = Vec::new();
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let ask = async |path: &str| {
                cluster
                    .ask_pod(system, name, self.monitoring_port, Method::GET, path)
                    .await
            };
            let answer = ask("/debug/syncz").await?;
            ensure!(
                answer.status.is_success(),
                "control plane {name} answers {} when asked for its proxies",
                answer.status
            );
            let answer: Value = serde_json::from_slice(&answer.body)
                .with_context(|| format!("control plane {name} does not answer with JSON"))?;
            // Only for the JSON form; an older one may not know it.
            let version = ask("/version").await.ok().filter(|it| it.status.is_success());
            let version = version.map(|it| String::from_utf8_lossy(&it.body).trim().to_owned());
            said.push(Said::read(name, version.unwrap_or_default(), &answer));
        }
        Ok(said)
    }
}
