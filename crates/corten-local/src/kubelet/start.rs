//! Making a pod's surroundings and starting its containers: what is read, resolved and handed to the sandbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_apiserver::resources;
use corten_pod::argv::DEFAULT_PATH;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::Node;
use super::env::{self, Context};
use super::events::Involved;
use super::images::Program;
use super::lifecycle::StartFailure;
use super::machine::{Made, PodSandbox};
use super::surroundings::{self, powers};
use super::sysctls;
use super::volumes::{Place, Volumes, find};
use super::worker::news;
use crate::sandbox::{ContainerSpec, Mount, NetworkNamespace, SandboxSpec, StartError};

/// A pod's volumes, namespaces and network, about to be made.
pub(super) struct Preparation {
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) place: Place,
}

/// The same, made.
pub(super) struct Prepared {
    pub(super) made: Made,
    pub(super) renew_at: Option<Timestamp>,
}

/// What could not be made, as an Event.
#[derive(Debug)]
pub(super) struct PrepareError {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Preparation {
    pub(super) async fn run(self) -> Result<Prepared, PrepareError> {
        let (node, pod) = (&self.node, &self.pod);
        let renew_at = self
            .volumes
            .make(pod, &self.place)
            .await
            .map_err(|error| PrepareError {
                reason: "FailedMount",
                message: error.to_string(),
            })?;
        let domain = &node.dns.domain;
        let spec = pod.spec.as_ref();
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let uid = part(&pod.metadata.uid);
        let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
        let sandbox = SandboxSpec {
            namespace: part(&pod.metadata.namespace),
            name: part(&pod.metadata.name),
            hostname: if host_network {
                node.identity.name.clone()
            } else {
                surroundings::hostname(pod, domain)
            },
            dir: node.dir.join("pods").join(&uid).join("sandbox"),
            uid,
            dns: surroundings::dns(pod, &node.dns),
            hosts: Vec::new(),
            netns: NetworkNamespace::New,
            share_process_namespace: spec.and_then(|spec| spec.share_process_namespace) == Some(true),
            masks: node.masks.clone(),
        };
        let sysctls = sysctls::requested(spec).unwrap_or_default();
        let made = node
            .machine
            .create(sandbox, host_network, sysctls)
            .await
            .map_err(|error| PrepareError {
                reason: "FailedCreatePodSandBox",
                message: format!("Failed to create pod sandbox: {error}"),
            })?;
        made.pod.set_hosts(surroundings::hosts(pod, &made.ips, domain));
        Ok(Prepared { made, renew_at })
    }
}

/// A container about to be started.
pub(super) struct Starting {
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) place: Place,
    pub(super) sandbox: Arc<dyn PodSandbox>,
    pub(super) container: Container,
    pub(super) about: Involved,
    pub(super) log_path: PathBuf,
}

/// A container that was started.
pub(super) struct Start {
    /// Its id, as the status shows it.
    pub(super) id: String,
}

impl Starting {
    pub(super) async fn run(self) -> Result<Start, StartFailure> {
        let program = self.resolve_image()?;
        let env = self.environment().await?;
        let spec = self.spec(program, env)?;
        let name = &self.container.name;
        self.tell(false, "Created", format!("Created container: {name}"));
        match self.sandbox.start(spec).await {
            Ok(_pid) => {}
            Err(error @ StartError::Invalid(_)) => {
                return Err(StartFailure::Config {
                    reason: "CreateContainerError",
                    message: error.to_string(),
                });
            }
            Err(error) => {
                return Err(StartFailure::Run {
                    message: error.to_string(),
                });
            }
        }
        self.tell(false, "Started", format!("Started container {name}"));
        let id = || uuid::Uuid::new_v4().simple().to_string();
        Ok(Start {
            id: format!("corten://{}{}", id(), id()),
        })
    }

    fn tell(&self, warning: bool, reason: &str, message: String) {
        self.node
            .recorder
            .tell(news(self.about.clone(), warning, reason, message));
    }

    /// The image's own command, when it has one.
    fn resolve_image(&self) -> Result<Vec<String>, StartFailure> {
        let image = self.container.image.as_deref().unwrap_or_default();
        let has_command = self
            .container
            .command
            .as_ref()
            .is_some_and(|command| !command.is_empty());
        match self.node.images.program(image, has_command) {
            Program::Known(command) => {
                self.tell(
                    false,
                    "Pulled",
                    format!("Container image \"{image}\" already present on machine"),
                );
                Ok(command)
            }
            Program::HostFiles => {
                let message =
                    format!("Container image \"{image}\" is not pulled: the command runs on this machine's files");
                self.tell(false, "HostFiles", message);
                Ok(Vec::new())
            }
            Program::Missing(message) => {
                self.tell(false, "Pulling", format!("Pulling image \"{image}\""));
                Err(StartFailure::Image { message })
            }
        }
    }

    async fn environment(&self) -> Result<Vec<(String, String)>, StartFailure> {
        let config = |message: String| StartFailure::Config {
            reason: "CreateContainerConfigError",
            message,
        };
        let client = &self.node.client;
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let found = find(client, namespace, env::references(&self.container))
            .await
            .map_err(config)?;
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        let mut services = Vec::new();
        if let Ok(kubernetes) = client.get(&resources::SERVICES, "default", "kubernetes").await {
            services.push(kubernetes);
        }
        if links {
            let listed = client.list(&resources::SERVICES, Some(namespace), None, None).await;
            services.extend(listed.map_err(|status| config(status.to_string()))?);
        }
        let context = Context {
            pod: &self.pod,
            node: &self.place.node,
            pod_ips: &self.place.pod_ips,
            host_ips: &self.place.host_ips,
            services: env::service_variables(services.iter().map(AsRef::as_ref)),
        };
        env::environment(&self.container, &context, &found).map_err(|error| config(error.to_string()))
    }

    fn spec(&self, program: Vec<String>, mut env: Vec<(String, String)>) -> Result<ContainerSpec, StartFailure> {
        let container = &self.container;
        let config = |message: String| StartFailure::Config {
            reason: "CreateContainerConfigError",
            message,
        };
        let words = |words: &Option<Vec<String>>| env::expand_words(words.as_deref().unwrap_or_default(), &env);
        let mut argv = words(&container.command);
        let mut mounts = Vec::new();
        let image = container.image.as_deref().unwrap_or_default();
        let ours = argv.first().and_then(|word| self.node.images.in_ours(image, word));
        if let (Some(program), Some(word)) = (ours, argv.first_mut()) {
            *word = program.to_string_lossy().into_owned();
            mounts.extend(own_program(program));
        }
        if argv.is_empty() {
            mounts.extend(program.first().and_then(|program| own_program(program.into())));
            argv = program;
        }
        let mut path = None;
        if let Some((dir, programs)) = self.node.images.programs() {
            path = Some(format!("{DEFAULT_PATH}:{}", dir.display()));
            for program in programs.filter(|path| hidden(path)).filter_map(own_program) {
                if mounts.iter().all(|mount| mount.target != program.target) {
                    mounts.push(program);
                }
            }
        }
        if let Some(agent) = self.node.images.proxy_agent(image).and_then(own_program) {
            let target = PathBuf::from(AGENT_DIR).join("pilot-agent");
            mounts.push(Mount { target, ..agent });
            path = path.map(|path| format!("{path}:{AGENT_DIR}"));
        }
        argv.extend(words(&container.args));
        let pod = self.pod.spec.as_ref();
        let powers = pod
            .map(|pod| powers(pod, container))
            .transpose()
            .map_err(config)?
            .unwrap_or_default();
        for mount in container.volume_mounts.iter().flatten() {
            mounts.push(self.mount(mount, &env).map_err(config)?);
        }
        nested_mountpoints(&mounts).map_err(config)?;
        let path = path.filter(|_| env.iter().all(|(name, _)| name != "PATH"));
        env.extend(path.map(|path| ("PATH".to_owned(), path)));
        let message_path = container
            .termination_message_path
            .as_deref()
            .filter(|path| !path.is_empty());
        Ok(ContainerSpec {
            name: container.name.clone(),
            argv,
            mounts,
            env,
            cwd: container
                .working_dir
                .as_ref()
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
            run_as_user: powers.user,
            run_as_group: powers.group,
            groups: powers.groups,
            security: powers.security,
            log_path: self.log_path.clone(),
            stdin: container.stdin == Some(true),
            tty: container.tty == Some(true),
            termination_message_path: Some(PathBuf::from(message_path.unwrap_or("/dev/termination-log"))),
        })
    }

    fn mount(&self, mount: &VolumeMount, env: &[(String, String)]) -> Result<Mount, String> {
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volume = volumes.into_iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume \"{}\" is not in the pod's volumes", mount.name))?;
        let expr = mount.sub_path_expr.as_ref().filter(|expr| !expr.is_empty());
        let sub_path = match expr {
            Some(expr) => env::expand_words(std::slice::from_ref(expr), env).pop(),
            None => mount.sub_path.clone(),
        };
        let sub_path = sub_path.filter(|path| !path.is_empty()).map(PathBuf::from);
        // A key of a ConfigMap is a link into the present version; links are not followed by the sandbox, so that nothing leaves the volume.
        let source = self.volumes.path(volume);
        let (source, sub_path) = match sub_path {
            Some(path) => through_data(source, path),
            None => (source, None),
        };
        let written_by_us = volume.empty_dir.is_none() && volume.host_path.is_none();
        Ok(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true) || written_by_us,
            sub_path,
        })
    }
}

/// Makes the places of mounts that lie in volumes which nobody can write in once they are mounted.
fn nested_mountpoints(mounts: &[Mount]) -> Result<(), String> {
    for outer in mounts
        .iter()
        .filter(|mount| mount.read_only && mount.sub_path.is_none())
    {
        // Programs and the like are files, and a user's own directories are not to be changed: volumes that we write are directories
        // with a version in them.
        if !outer.source.join("..data").exists() {
            continue;
        }
        for inner in mounts {
            let within = inner.target.strip_prefix(&outer.target).ok();
            let is_below = |within: &&Path| {
                let mut parts = within.components().peekable();
                parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
            };
            if let Some(within) = within.filter(is_below) {
                let place = outer.source.join(within);
                std::fs::create_dir_all(&place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
            }
        }
    }
    Ok(())
}

/// Where proxies find their own program by the name that hooks call it.
const AGENT_DIR: &str = "/run/corten";

/// The program of a mapped image is there even where pods have a directory of their own, such as `/tmp`.
fn own_program(program: PathBuf) -> Option<Mount> {
    (program.is_absolute() && program.is_file()).then(|| Mount {
        source: program.clone(),
        target: program,
        read_only: true,
        sub_path: None,
    })
}

/// Whether pods have a directory of their own where this lies.
fn hidden(program: &Path) -> bool {
    ["/tmp", "/run"].iter().any(|dir| program.starts_with(dir))
}

/// A sub-path of a volume that changes all at once names a file of the version that is present now.
fn through_data(source: PathBuf, sub_path: PathBuf) -> (PathBuf, Option<PathBuf>) {
    let version = std::fs::read_link(source.join("..data")).map(|version| source.join(version));
    match version {
        Ok(version) if version.join(Path::new(&sub_path)).exists() => (version, Some(sub_path)),
        _ => (source, Some(sub_path)),
    }
}
