//! `corten proxy-config`: what an Envoy was told, from its administration or from a dump, with istioctl's words, tables and flags.

mod log;
mod roots;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use corten_api::yaml;
use corten_envoy::in_order;
use corten_inspect::envoy::{
    self, ClusterFilter, Dump, EndpointFilter, Endpoints, ListenerFilter, RouteFilter, secret_table, secrets,
};
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{Connection, Envoy};
use crate::commands::{Form, read_file};
use crate::output;

/// What of it to show.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProxyConfig {
    /// Clusters: whom the proxy can send to
    #[command(visible_aliases = ["clusters", "c"])]
    Cluster {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: Clusters,
    },
    /// Listeners: what the proxy takes, and where it leads
    #[command(visible_aliases = ["listeners", "l"])]
    Listener {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: Listeners,
        /// Each listener with its chains; =false shows types only
        #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
        verbose: bool,
        /// Chains by their names, as a waypoint's are best read
        #[arg(long)]
        waypoint: bool,
    },
    /// Routes: which request goes to which cluster
    #[command(visible_aliases = ["routes", "r"])]
    Route {
        #[command(flatten)]
        common: Common,
        /// Only the route configuration of this name
        #[arg(long)]
        name: Option<String>,
        /// Each route; =false shows how many virtual hosts there are
        #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
        verbose: bool,
    },
    /// Endpoints: the addresses of clusters, and whether they are used
    #[command(visible_aliases = ["endpoints", "ep"])]
    Endpoint {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: EndpointsWanted,
    },
    /// Endpoints as the control plane told of them, with their localities
    Eds {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: EndpointsWanted,
    },
    /// Certificates and roots
    #[command(visible_aliases = ["secrets", "s"])]
    Secret {
        #[command(flatten)]
        common: Common,
    },
    /// What the proxy was started with
    #[command(visible_alias = "b")]
    Bootstrap {
        #[command(flatten)]
        common: CommonAs,
    },
    /// Filters that are discovered on their own
    #[command(visible_alias = "ec")]
    Ecds {
        #[command(flatten)]
        common: Common,
    },
    /// Everything
    #[command(visible_alias = "a")]
    All {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        clusters: Clusters,
        /// Only listeners and endpoints of this address
        #[arg(long)]
        address: Option<String>,
        /// Only listeners of this type: HTTP, TCP, HTTP+TCP
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only the route configuration of this name
        #[arg(long)]
        name: Option<String>,
        /// Each chain and route; =false shows fewer
        #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
        verbose: bool,
        /// A title over each table
        #[arg(long)]
        with_headers: bool,
    },
    /// What the proxy logs, shown or changed
    #[command(visible_alias = "o")]
    Log(log::Log),
    /// Whether two proxies have the same roots
    #[command(visible_alias = "rc")]
    RootcaCompare(roots::Roots),
}

/// Which clusters.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Clusters {
    /// Only those whose host has this in it
    #[arg(long)]
    fqdn: Option<String>,
    /// Only those of this direction: inbound or outbound
    #[arg(long)]
    direction: Option<String>,
    /// Only those of this subset
    #[arg(long)]
    subset: Option<String>,
    /// Only those of this port
    #[arg(long)]
    port: Option<u16>,
}

/// Which listeners.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Listeners {
    /// Only those of this address
    #[arg(long)]
    address: Option<String>,
    /// Only those of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only those of this type: HTTP, TCP, HTTP+TCP
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Which endpoints.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EndpointsWanted {
    /// Only those of this address
    #[arg(long)]
    address: Option<String>,
    /// Only those of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only those of the cluster of this name, as `proxy-config cluster -o json` shows it
    #[arg(long)]
    cluster: Option<String>,
    /// Only those in this state: healthy, unhealthy, draining ...
    #[arg(long)]
    status: Option<String>,
}

/// Whose configuration, and how it is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    place: Place,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "short")]
    output: Form,
}

/// The same where JSON is usual.
#[derive(Debug, clap::Args)]
pub(crate) struct CommonAs {
    #[command(flatten)]
    place: Place,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "json")]
    output: Form,
}

/// Whose configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    connection: Connection,
    /// The pod, or TYPE/NAME for a pod of a workload
    #[arg(
        value_name = "[TYPE/]NAME[.NAMESPACE]",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    pod: Option<String>,
    /// A dump that was saved before; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The port of Envoy's administration
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin_port: u16,
}

impl ProxyConfig {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let text = match &self {
            Self::Log(log) => return log.run(),
            Self::RootcaCompare(roots) => return roots.run(),
            Self::Cluster { common, filter } => {
                let (dump, filter) = (common.place.dump()?, filter.filter());
                common.list(
                    "envoy.config.cluster.v3.Cluster",
                    || envoy::select_clusters(&dump, &filter),
                    || envoy::clusters(&dump, &filter, false),
                )?
            }
            Self::Listener {
                common,
                filter,
                verbose,
                waypoint,
            } => {
                let (dump, filter) = (common.place.dump()?, filter.filter());
                common.list(
                    "envoy.config.listener.v3.Listener",
                    || envoy::select_listeners(&dump, &filter),
                    || {
                        if *waypoint {
                            envoy::chains(&dump, &filter)
                        } else {
                            envoy::listeners(&dump, &filter, *verbose, false)
                        }
                    },
                )?
            }
            Self::Route { common, name, verbose } => {
                let (dump, filter) = (common.place.dump()?, RouteFilter { name: name.clone() });
                common.list(
                    "envoy.config.route.v3.RouteConfiguration",
                    || envoy::select_routes(&dump, &filter),
                    || envoy::routes(&dump, &filter, *verbose, false),
                )?
            }
            Self::Endpoint { common, filter } => {
                let filter = filter.filter();
                let text = common.place.answer("/clusters?format=json")?;
                let found = Endpoints::parse(&text, &filter).context("reading the endpoints")?;
                common.endpoints(&found, &filter)?
            }
            Self::Eds { common, filter } => {
                let (dump, filter) = (
                    common.place.dump_with("/config_dump?include_eds=true")?,
                    filter.filter(),
                );
                common.endpoints(&Endpoints::told(&dump, &filter), &filter)?
            }
            Self::Secret { common } => {
                let dump = common.place.dump()?;
                let section = dump.section("SecretsConfigDump").unwrap_or_default();
                common.section(&section, "envoy.admin.v3.SecretsConfigDump", || {
                    secret_table(&secrets(&dump, Timestamp::now()), false)
                })?
            }
            Self::Bootstrap { common } => {
                let dump = common.place.dump()?;
                let (section, versions) = envoy::bootstrap(&dump)?;
                shown(common.output, &section, "envoy.admin.v3.BootstrapConfigDump", || {
                    versions
                })?
            }
            Self::Ecds { common } => {
                let dump = common.place.dump()?;
                let (section, table) = envoy::extensions(&dump);
                common.section(&section, "envoy.admin.v3.EcdsConfigDump", || table)?
            }
            Self::All {
                common,
                clusters,
                address,
                kind,
                name,
                verbose,
                with_headers,
            } => {
                let dump = common.place.dump_with("/config_dump?include_eds=true")?;
                let all = All {
                    clusters: clusters.filter(),
                    listeners: ListenerFilter {
                        address: address.clone(),
                        port: clusters.port,
                        kind: kind.clone(),
                    },
                    routes: RouteFilter { name: name.clone() },
                    endpoints: EndpointFilter {
                        address: address.clone(),
                        port: clusters.port,
                        ..EndpointFilter::default()
                    },
                    verbose: *verbose,
                    with_headers: *with_headers,
                };
                common.section(&dump.all(), "envoy.admin.v3.ConfigDump", || all.tables(&dump))?
            }
        };
        output::text(text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything, with what is asked of each part.
struct All {
    clusters: ClusterFilter,
    listeners: ListenerFilter,
    routes: RouteFilter,
    endpoints: EndpointFilter,
    verbose: bool,
    with_headers: bool,
}

impl All {
    /// All tables; a part that the proxy does not have says so in its place.
    fn tables(&self, dump: &Dump) -> String {
        let or_why = |table: Result<String, envoy::DumpError>| table.unwrap_or_else(|why| format!("{why}\n"));
        let endpoints = Endpoints::told(dump, &self.endpoints);
        let tables = [
            (
                "BOOTSTRAP",
                or_why(envoy::bootstrap(dump).map(|(_, versions)| versions)),
            ),
            ("CLUSTER", or_why(envoy::clusters(dump, &self.clusters, true))),
            (
                "LISTENER",
                or_why(envoy::listeners(dump, &self.listeners, self.verbose, true)),
            ),
            ("ROUTE", or_why(envoy::routes(dump, &self.routes, self.verbose, true))),
            ("SECRET", secret_table(&secrets(dump, Timestamp::now()), true)),
            ("ENDPOINTS", endpoints.table(&self.endpoints, true)),
        ];
        let titled = tables.map(|(title, table)| {
            if self.with_headers {
                format!("------ {title} INFO ------\n\n{table}")
            } else {
                table
            }
        });
        titled.join("\n")
    }
}

impl Clusters {
    fn filter(&self) -> ClusterFilter {
        ClusterFilter {
            fqdn: self.fqdn.clone(),
            direction: self.direction.clone(),
            port: self.port,
            subset: self.subset.clone(),
        }
    }
}

impl Listeners {
    fn filter(&self) -> ListenerFilter {
        ListenerFilter {
            address: self.address.clone(),
            port: self.port,
            kind: self.kind.clone(),
        }
    }
}

impl EndpointsWanted {
    fn filter(&self) -> EndpointFilter {
        EndpointFilter {
            address: self.address.clone(),
            port: self.port,
            cluster: self.cluster.clone(),
            status: self.status.clone(),
        }
    }
}

impl Place {
    /// The file, or what the pod's Envoy answers to a path.
    fn answer(&self, path: &str) -> Result<Bytes> {
        match (&self.file, &self.pod) {
            (Some(file), _) => Ok(read_file(file)?.into()),
            (None, Some(pod)) => self.connection.run(async |cluster| {
                let envoy = Envoy::find(&cluster, pod, self.proxy_admin_port).await?;
                envoy.ask(&cluster, Method::GET, path).await
            }),
            (None, None) => bail!("name a pod, or a dump with -f"),
        }
    }

    fn dump(&self) -> Result<Dump> {
        self.dump_with("/config_dump")
    }

    fn dump_with(&self, path: &str) -> Result<Dump> {
        let text = self.answer(path)?;
        let of = || match (&self.file, &self.pod) {
            (Some(file), _) => format!("reading {}", file.display()),
            (None, pod) => format!(
                "reading what the Envoy of {} answers",
                pod.as_deref().unwrap_or_default()
            ),
        };
        Dump::parse(&text).with_context(of)
    }
}

impl Common {
    /// Resources of a type, in the form that was asked for.
    fn list<'a, E: Into<anyhow::Error>>(
        &self,
        kind: &str,
        selected: impl FnOnce() -> Result<Vec<&'a Value>, E>,
        table: impl FnOnce() -> Result<String, E>,
    ) -> Result<String> {
        if self.output == Form::Short {
            return table().map_err(Into::into);
        }
        let selected = selected().map_err(Into::into)?;
        let list: Value = selected.into_iter().cloned().map(without_type).collect();
        shown(self.output, &list, kind, String::new)
    }

    fn section(&self, section: &Value, kind: &str, table: impl FnOnce() -> String) -> Result<String> {
        shown(self.output, section, kind, table)
    }

    fn endpoints(&self, found: &Endpoints, filter: &EndpointFilter) -> Result<String> {
        let (kind, resources) = found.resources();
        let list = Value::Array(resources.to_vec());
        shown(self.output, &list, kind, || found.table(filter, false))
    }
}

/// A message, or a list of them, in the form that was asked for.
fn shown(form: Form, message: &Value, kind: &str, table: impl FnOnce() -> String) -> Result<String> {
    Ok(match form {
        Form::Short => table(),
        Form::Json => output::json(&in_order(kind, message))?,
        Form::Yaml => yaml::document(message),
    })
}

/// Without saying of what type it is, where the place says it.
fn without_type(mut message: Value) -> Value {
    if let Some(message) = message.as_object_mut() {
        message.remove("@type");
    }
    message
}
