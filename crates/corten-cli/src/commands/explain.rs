//! `corten explain`: one call followed through the proxies of both sides, by the control plane's own code and without sockets.

pub(super) mod tokens;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use corten_explain::{Outcome, Trace};

use crate::commands::Form;
use crate::mesh::following::{Asked, Follower, Speaks};
use crate::mesh::world::{Known, Objects};
use crate::output;

/// Follow one call through the proxies of both sides, and say why it goes where it goes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: the call is answered or arrives, 1: it is refused on the way. Examples:
  corten explain -f shop/ --from web.shop --to reviews:9080
  corten explain -f shop/ --from web.shop --to reviews:9080 --path /v1/x --header end-user=jason
  corten explain -f shop/ --from 203.0.113.9 --to shop.example.com:443 --path /cart
  corten explain -f shop/ --from web.shop --to payments.bank:8080 --method POST --jwt '{\"iss\":\"me\",\"sub\":\"you\"}' -o json"
)]
pub(crate) struct Explain {
    #[command(flatten)]
    objects: Objects,
    /// The pod that calls: POD.NAMESPACE, or the name of a Deployment in place of the pod's. An address that no pod has calls from outside,
    /// through a gateway
    #[arg(long, value_name = "POD.NAMESPACE|IP")]
    from: String,
    /// Whom it calls, as it would write it; the port is 80 unless it says another. From outside this is a host that a gateway has, or the
    /// gateway's Service, or one of its addresses
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// The path, with its query
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// A header; Host, too
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// A token as bearer: the token itself, its claims as JSON, or @FILE with either. Signatures are taken to be good
    #[arg(long, value_name = "TOKEN")]
    jwt: Option<String>,
    /// What it speaks [default: what the port is for]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<Speaks>,
    /// The address that the client's DNS gives for the host
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Take every pod to have a sidecar, whatever its labels and its namespace's say
    #[arg(long)]
    all_sidecars: bool,
    /// The form
    #[arg(short, long, value_name = "FORM", default_value = "short")]
    output: Form,
}

impl Explain {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let known = self.objects.read()?;
        let trace = self.trace(&known)?;
        match self.output {
            Form::Short => output::text(trace.to_string())?,
            Form::Json => output::line(output::json(&trace)?)?,
            Form::Yaml => output::text(corten_api::yaml::document(&serde_json::to_value(&trace)?))?,
        }
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
        let arrives = trace.ends().any(|hop| !refused(&hop.outcome));
        Ok(if arrives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn trace(&self, known: &Known) -> Result<Trace> {
        let follower = Follower::new(known, self.all_sidecars);
        let outside: Option<IpAddr> = self.from.parse().ok();
        if let Some(from) = outside.filter(|_| known.pod_at(&self.from).is_none()) {
            let followed = follower.enters(from, &self.asked()?)?;
            for note in &followed.notes {
                eprintln!("{note}");
            }
            return Ok(followed.trace);
        }
        let client = match outside {
            Some(_) => known.pod_at(&self.from).context("no pod has the address")?,
            None => known.pod(&self.from)?,
        };
        let followed = follower.follow(&client, &self.asked()?)?;
        for note in &followed.notes {
            eprintln!("{note}");
        }
        if followed.trace.hops.is_empty() {
            bail!(
                "neither {} nor who is called is in the mesh: there is no proxy to follow the call through",
                client.place()
            );
        }
        Ok(followed.trace)
    }

    fn asked(&self) -> Result<Asked> {
        let (host, port) = match self.to.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port
                    .parse()
                    .with_context(|| format!("{port:?} in {:?} is no port", self.to))?;
                (host.trim_matches(['[', ']']).to_owned(), port)
            }
            _ => (self.to.clone(), 80),
        };
        let headers = self.headers.iter().map(|header| {
            let split = header.split_once('=').or_else(|| header.split_once(':'));
            let (name, value) = split.with_context(|| format!("the header {header:?} is not NAME=VALUE"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(Asked {
            host,
            port,
            address: self.address,
            speaks: self.protocol,
            method: self.method.clone(),
            path: self.path.clone(),
            headers: headers.collect::<Result<_>>()?,
            token: self.jwt.as_deref().map(tokens::token).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
