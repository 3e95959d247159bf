//! `corten run`: a pod made of a process of this machine, followed until it ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::{AsyncReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, DeleteParams, LogParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{Cluster, Connection};

/// Run a command of this machine as a pod: in the pod network, under a service account, with labels that services select.
/// Its output is shown here; the pod goes when the command ends or on Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: the command's own; 128 + N when signal N ended it.")]
pub(crate) struct Run {
    #[command(flatten)]
    connection: Connection,
    /// The pod's name; made from the command when left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The service account it runs as
    #[arg(long = "sa", value_name = "NAME")]
    service_account: Option<String>,
    /// A label of the pod; may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// A port it listens on; may be repeated
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// A variable of its environment; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How long the command has to end after SIGTERM.
const GRACE_SECONDS: i64 = 5;

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.connection.clone().run(async |cluster| self.follow(&cluster).await)
    }

    /// The pod as an object.
    fn pod(&self, working_dir: &Path) -> Value {
        let program = self.command.first().map_or("", String::as_str);
        let base = program.rsplit('/').next().unwrap_or(program).to_lowercase();
        let base: String = base
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let base = base.trim_matches('-');
        let base = if base.is_empty() { "run" } else { base };
        let mut meta = match &self.name {
            Some(name) => json!({ "name": name }),
            None => json!({ "generateName": format!("{base}-") }),
        };
        let labels: BTreeMap<&String, &String> = self.labels.iter().map(|(key, value)| (key, value)).collect();
        if !labels.is_empty() {
            meta["labels"] = json!(labels);
        }
        let ports: Vec<Value> = self.ports.iter().map(|port| json!({ "containerPort": port })).collect();
        let env: Vec<Value> = self
            .env
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        let mut spec = json!({
            "restartPolicy": "Never",
            // Whoever presses Ctrl-C waits.
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [{
                "name": "run",
                "image": format!("host/{base}"),
                "command": self.command,
                "workingDir": working_dir,
                "ports": ports,
                "env": env,
            }],
        });
        if let Some(account) = &self.service_account {
            spec["serviceAccountName"] = account.as_str().into();
        }
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec })
    }

    async fn follow(&self, cluster: &Cluster) -> anyhow::Result<ExitCode> {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), &cluster.namespace);
        let object = serde_json::from_value(self.pod(&std::env::current_dir()?))?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let pod = pods
            .create(&PostParams::default(), &object)
            .await
            .map_err(|error| anyhow::Error::from(cluster.refusal(error)))
            .context("the pod was not created")?;
        let name = pod.metadata.name.unwrap_or_default();
        eprintln!("pod/{name} created");

        let asked = async {
            tokio::select! {
                _ = interrupted.recv() => 130,
                _ = terminated.recv() => 143,
            }
        };
        let code = tokio::select! {
            code = outcome(&pods, &name) => code,
            code = asked => {
                eprintln!("pod/{name} is being deleted (once more to kill it)");
                let ending = async {
                    pods.delete(&name, &DeleteParams::default()).await?;
                    wait(&pods, &name, |_| false).await
                };
                // Asked a second time, it does not wait for the end.
                tokio::select! {
                    ended = ending => { ended?; }
                    _ = interrupted.recv() => {}
                }
                Ok(code)
            }
        };
        // The pod is nobody's once this command has ended.
        let options = DeleteParams::default().grace_period(0);
        match pods.delete(&name, &options).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.context("the pod was not deleted")?),
        }
        Ok(ExitCode::from(u8::try_from(code?).unwrap_or(1)))
    }
}

/// Shows what the command prints; its exit code once it has ended.
async fn outcome(pods: &Api<Pod>, name: &str) -> anyhow::Result<i32> {
    let begun = |pod: &Pod| {
        state(pod).is_some_and(|of| {
            let state = of.state.as_ref();
            let failed = state
                .and_then(|of| of.waiting.as_ref())
                .and_then(|of| of.reason.as_deref());
            let failed = matches!(
                failed,
                Some("CreateContainerConfigError" | "CreateContainerError" | "ErrImagePull")
            );
            failed || state.is_some_and(|of| of.running.is_some() || of.terminated.is_some())
        })
    };
    let Some(pod) = wait(pods, name, begun).await? else {
        anyhow::bail!("the pod was deleted before its command ran");
    };
    if let Some(waiting) = state(&pod).and_then(|of| of.state.as_ref()?.waiting.as_ref()) {
        anyhow::bail!(
            "the command cannot run: {}",
            waiting.message.as_deref().unwrap_or("no reason is given")
        );
    }
    if exit(&pod).is_none_or(|(_, reason, _)| reason != "StartError") {
        let options = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let mut log = pods
            .log_stream(name, &options)
            .await
            .context("its output cannot be read")?;
        let mut out = tokio::io::stdout();
        let mut block = vec![0; 16 * 1024];
        loop {
            let read = log.read(&mut block).await?;
            if read == 0 {
                break;
            }
            out.write_all(&block[..read]).await?;
            out.flush().await?;
        }
    }
    let Some(pod) = wait(pods, name, |pod| exit(pod).is_some()).await? else {
        anyhow::bail!("the pod was deleted while its command ran");
    };
    let (code, reason, message) = exit(&pod).unwrap_or_default();
    if reason == "StartError" {
        anyhow::bail!("the command cannot run: {message}");
    }
    Ok(code)
}

/// The pod as soon as `holds` of it; nothing when it is deleted first.
async fn wait(pods: &Api<Pod>, name: &str, holds: impl Fn(&Pod) -> bool) -> anyhow::Result<Option<Pod>> {
    loop {
        let Some(pod) = pods.get_opt(name).await? else {
            return Ok(None);
        };
        if holds(&pod) {
            return Ok(Some(pod));
        }
        let version = pod.metadata.resource_version.unwrap_or_default();
        let options = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = Box::pin(pods.watch(&options, &version).await?);
        // A watch that ends, or fell behind, is begun again from the present state.
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) if holds(&pod) => return Ok(Some(pod)),
                WatchEvent::Deleted(_) => return Ok(None),
                WatchEvent::Error(_) => break,
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Bookmark(_) => {}
            }
        }
    }
}

fn state(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// How the command ended: exit code, reason, message.
fn exit(pod: &Pod) -> Option<(i32, String, String)> {
    let ended = state(pod)?.state.as_ref()?.terminated.as_ref()?;
    Some((
        ended.exit_code,
        ended.reason.clone().unwrap_or_default(),
        ended.message.clone().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn the_pod_is_what_the_flags_say() {
        let words = "run -n shop --sa clerk -l app=till -l v=1 --port 8080 -e A=b=c -- ./Till.sh --open";
        let run = Cli::parse_from(words.split(' ')).run;
        assert_eq!(
            run.pod(Path::new("/work")),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "generateName": "till-sh-", "labels": { "app": "till", "v": "1" } },
                "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "serviceAccountName": "clerk", "containers": [{
                    "name": "run", "image": "host/till-sh", "command": ["./Till.sh", "--open"], "workingDir": "/work",
                    "ports": [{ "containerPort": 8080 }], "env": [{ "name": "A", "value": "b=c" }],
                }] },
            })
        );
        assert!(Cli::try_parse_from(["run", "-l", "app", "--", "x"]).is_err());
        assert!(Cli::try_parse_from(["run", "-l", "app=x"]).is_err());
    }
}
