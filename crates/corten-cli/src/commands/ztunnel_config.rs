//! `corten ztunnel-config`: what the node proxies know, with istioctl's words, tables and flags.

mod find;
mod log;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use corten_admin::config_dump::Dump;
use corten_inspect::ztunnel::{self as tables, Connections, Workloads};
use jiff::Timestamp;
use serde::Serialize;

use self::find::{Choice, Found, Workload};
use crate::cluster::Connection;
use crate::commands::{Form, read_file};
use crate::output;
use corten_api::yaml;

/// What of it to show.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ZtunnelConfig {
    /// Workloads, their addresses and waypoints, and whether they are spoken to by HBONE
    #[command(visible_aliases = ["workloads", "w"])]
    Workload {
        #[command(flatten)]
        common: Common,
        /// Only those with this address
        #[arg(long)]
        address: Option<String>,
        /// Only those of this name
        #[arg(long, value_name = "NAME")]
        workload_name: Option<String>,
        /// Only those of this namespace
        #[arg(long, value_name = "NAMESPACE")]
        workload_namespace: Option<String>,
        /// Only those on this node
        #[arg(long, value_name = "NODE")]
        workload_node: Option<String>,
    },
    /// Services, their addresses and waypoints, and how many endpoints can be used
    #[command(visible_aliases = ["services", "s", "svc"])]
    Service {
        #[command(flatten)]
        common: Common,
        /// Only those of this namespace
        #[arg(long, value_name = "NAMESPACE")]
        service_namespace: Option<String>,
    },
    /// Authorization policies
    #[command(visible_aliases = ["policies", "p", "pol"])]
    Policy {
        #[command(flatten)]
        common: Common,
        /// Only those of this namespace
        #[arg(long, value_name = "NAMESPACE")]
        policy_namespace: Option<String>,
    },
    /// The certificates of the node's pods
    #[command(visible_aliases = ["certificates", "certs", "cert"])]
    Certificate {
        #[command(flatten)]
        common: Common,
    },
    /// The connections of the node's pods that are open now
    #[command(visible_aliases = ["cons"])]
    Connections {
        #[command(flatten)]
        common: Common,
        /// Only those to the pods, or only those from them
        #[arg(long)]
        direction: Option<Direction>,
        /// Addresses instead of names
        #[arg(long)]
        raw: bool,
        /// Only those of the pod of this name
        #[arg(long, value_name = "NAME")]
        workload_name: Option<String>,
        /// Only those of this namespace's pods
        #[arg(long, value_name = "NAMESPACE")]
        workload_namespace: Option<String>,
    },
    /// Everything
    All {
        #[command(flatten)]
        common: Common,
        /// A title over each table
        #[arg(long)]
        with_headers: bool,
    },
    /// What the node proxies log, shown or changed
    #[command(visible_alias = "o")]
    Log(log::Log),
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// Whose dump, and how it is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    connection: Connection,
    /// A ztunnel pod; or another pod, which means the ztunnel of its node and shows what is about this pod
    #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]", conflicts_with_all = ["node", "file"])]
    pod: Option<String>,
    /// The ztunnel of this node
    #[arg(long, conflicts_with = "file")]
    node: Option<String>,
    /// A dump that was saved before; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "short")]
    output: Form,
    #[command(flatten)]
    place: Place,
}

/// Where the mesh's parts are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The namespace of the mesh's parts
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// The port of ztunnel's admin endpoint
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin_port: u16,
}

/// A dump, and whom of it the user asked about.
struct Given {
    text: Vec<u8>,
    dump: Dump,
    workload: Option<Workload>,
}

impl ZtunnelConfig {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let now = Timestamp::now();
        let text = match &self {
            Self::Log(log) => return log.run(),
            Self::Workload {
                common,
                address,
                workload_name,
                workload_namespace,
                workload_node,
            } => {
                let given = common.read(Choice::Any)?;
                let target = given.workload.as_ref();
                let filter = Workloads {
                    name: target.map(|it| it.name.as_str()).or(workload_name.as_deref()),
                    namespace: target.map(|it| it.namespace.as_str()).or(workload_namespace.as_deref()),
                    address: address.as_deref(),
                    node: workload_node.as_deref(),
                };
                let dump = &given.dump;
                common.show(&tables::select_workloads(dump, &filter), || {
                    tables::workloads(dump, &filter)
                })?
            }
            Self::Service {
                common,
                service_namespace,
            } => {
                let Given { dump, .. } = common.read(Choice::Any)?;
                let namespace = service_namespace.as_deref();
                common.show(&tables::select_services(&dump, namespace), || {
                    tables::services(&dump, namespace)
                })?
            }
            Self::Policy {
                common,
                policy_namespace,
            } => {
                let Given { dump, .. } = common.read(Choice::Any)?;
                let namespace = policy_namespace.as_deref();
                common.show(&tables::select_policies(&dump, namespace), || {
                    tables::policies(&dump, namespace)
                })?
            }
            Self::Certificate { common } => {
                let Given { dump, .. } = common.read(Choice::Exact)?;
                common.show(&dump.certificates, || {
                    eprint!("{}", tables::unavailable(&dump));
                    tables::certificates(&dump, now)
                })?
            }
            Self::Connections {
                common,
                direction,
                raw,
                workload_name,
                workload_namespace,
            } => {
                let given = common.read(Choice::Exact)?;
                let target = given.workload.as_ref();
                let filter = Connections {
                    name: target.map(|it| it.name.as_str()).or(workload_name.as_deref()),
                    namespace: target.map(|it| it.namespace.as_str()).or(workload_namespace.as_deref()),
                    direction: direction.map(|it| match it {
                        Direction::Inbound => tables::Direction::Inbound,
                        Direction::Outbound => tables::Direction::Outbound,
                    }),
                    raw: *raw,
                };
                let dump = &given.dump;
                common.show(&tables::select_pods(dump, &filter), || {
                    tables::connections(dump, &filter)
                })?
            }
            Self::All { common, with_headers } => {
                let given = common.read(Choice::Any)?;
                match common.output {
                    Form::Short => tables::all(&given.dump, *with_headers, now),
                    Form::Json => String::from_utf8_lossy(&given.text).trim_end().to_owned() + "\n",
                    Form::Yaml => yaml::document(&serde_json::from_slice(&given.text)?),
                }
            }
        };
        output::text(text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Common {
    /// Reads the dump that is meant.
    fn read(&self, choice: Choice) -> Result<Given> {
        let (text, workload) = match &self.file {
            Some(file) => (read_file(file)?, None),
            None => self.connection.run(async |cluster| {
                let Found { ztunnel, workload } = self.find(&cluster, choice).await?;
                let text = find::dump(&cluster, &ztunnel, self.place.proxy_admin_port).await?;
                Ok((text, workload))
            })?,
        };
        let dump = Dump::parse(&text).context("reading the dump")?;
        Ok(Given { text, dump, workload })
    }

    /// A selection in the form that was asked for.
    fn show(&self, selected: &impl Serialize, table: impl FnOnce() -> String) -> Result<String> {
        Ok(match self.output {
            Form::Short => table(),
            Form::Json => output::json(selected)?,
            Form::Yaml => yaml::document(&serde_json::to_value(selected)?),
        })
    }
}
