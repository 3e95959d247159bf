//! `corten proxy-config rootca-compare`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use corten_inspect::envoy::{Dump, secrets};
use http::Method;
use jiff::Timestamp;

use crate::cluster::{Cluster, Connection, Envoy};
use crate::output;

/// Say whether two proxies trust the same roots
#[derive(Debug, clap::Args)]
pub(crate) struct Roots {
    #[command(flatten)]
    connection: Connection,
    /// The one pod
    #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]")]
    one: String,
    /// The other pod
    #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]")]
    other: String,
    /// The port of Envoy's administration
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin_port: u16,
}

impl Roots {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let (one, other) = self.connection.run(async |cluster| {
            let one = self.roots(&cluster, &self.one).await?;
            Ok((one, self.roots(&cluster, &self.other).await?))
        })?;
        let same = one == other;
        output::line(if same {
            format!("{} and {} have the same ROOTCA", self.one, self.other)
        } else {
            format!(
                "{} and {} have different ROOTCA, so neither takes the other's certificate",
                self.one, self.other
            )
        })?;
        Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn roots(&self, cluster: &Cluster, pod: &str) -> Result<BTreeSet<String>> {
        let envoy = Envoy::find(cluster, pod, self.proxy_admin_port).await?;
        let text = envoy.ask(cluster, Method::GET, "/config_dump").await?;
        let dump = Dump::parse(&text).with_context(|| format!("reading what the Envoy of {pod} answers"))?;
        let found = secrets(&dump, Timestamp::now()).into_iter();
        let roots: BTreeSet<String> = found.filter(|it| it.name == "ROOTCA").map(|it| it.cert).collect();
        ensure!(!roots.is_empty(), "the Envoy of {pod} has no secret ROOTCA");
        Ok(roots)
    }
}
