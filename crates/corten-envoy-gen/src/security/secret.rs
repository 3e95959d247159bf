//! Where a proxy gets its secrets from: its own agent for the mesh's certificates and for files, the control plane for
//! what Kubernetes keeps.

use corten_envoy::{
    envoy::{
        config::core::v3::{
            AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
            api_config_source::ApiType,
            config_source::ConfigSourceSpecifier,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
        },
        extensions::transport_sockets::tls::v3::SdsSecretConfig,
    },
    seconds,
};

/// The name of the workload's own certificate and key.
pub const DEFAULT: &str = "default";
/// The name of the authorities that the mesh trusts.
pub const ROOT: &str = "ROOTCA";
/// What is put after the name of a credential to name the authorities in it.
pub const AUTHORITIES: &str = "-cacert";
/// The cluster of the agent beside the proxy.
pub const AGENT_CLUSTER: &str = "sds-grpc";
/// The cluster of an agent that only reads files, where a workload brings its own.
pub const FILES_CLUSTER: &str = "sds-files-grpc";

/// A secret of the agent: the mesh's certificates, or files by [`files`] and [`authorities_file`].
pub fn of_agent(name: &str) -> SdsSecretConfig {
    let mut config = over_grpc(name, AGENT_CLUSTER);
    if let (DEFAULT | ROOT, Some(source)) = (name, &mut config.sds_config) {
        // Nothing works without these: whoever needs them waits, however long it takes.
        source.initial_fetch_timeout = Some(seconds(0));
    }
    config
}

/// A file, which the agent reads, or the agent for files where there is one.
pub fn of_files(name: &str, own_agent: bool) -> SdsSecretConfig {
    if own_agent {
        over_grpc(name, FILES_CLUSTER)
    } else {
        of_agent(name)
    }
}

/// The name of a certificate and its key in files.
pub fn files(certificate: &str, key: &str) -> String {
    format!("file-cert:{certificate}~{key}")
}

/// The name of a file of authorities; `system` stands for those of the operating system.
pub fn authorities_file(path: &str) -> String {
    format!("file-root:{path}")
}

/// A credential that a resource names, from the control plane.
pub fn credential(name: &str) -> SdsSecretConfig {
    let built_in = format!("{BUILT_IN}{AUTHORITIES}");
    match name {
        BUILT_IN => of_agent(DEFAULT),
        name if name == built_in => of_agent(ROOT),
        name => SdsSecretConfig {
            name: resource_name(name.strip_prefix("sds://").unwrap_or(name)),
            // No listener or cluster waits for ever for a secret that may not exist.
            sds_config: Some(ConfigSource {
                resource_api_version: ApiVersion::V3.into(),
                config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
                ..ConfigSource::default()
            }),
        },
    }
}

const BUILT_IN: &str = "builtin://";
const INVALID: &str = "invalid://";
const TYPED: [&str; 3] = ["configmap://", "kubernetes://", "kubernetes-gateway://"];

/// The name by which a proxy asks for a credential.
pub fn resource_name(credential: &str) -> String {
    if credential.starts_with(BUILT_IN) {
        return DEFAULT.to_owned();
    }
    if credential.starts_with(INVALID) {
        return INVALID.to_owned();
    }
    if TYPED.iter().any(|prefix| credential.starts_with(prefix)) {
        return credential.to_owned();
    }
    format!("kubernetes://{credential}")
}

/// What keeps a certificate, by the scheme of a resource's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// A Secret that a Gateway of the Gateway API names (`kubernetes-gateway://`).
    Gateway,
    /// A Secret (`kubernetes://`), of the namespace of whoever asks if the name says none.
    Secret,
    /// A ConfigMap with authorities (`configmap://`).
    ConfigMap,
}

/// Where a credential is, read from the name by which a proxy asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// What keeps it.
    pub keeper: Keeper,
    /// The namespace of that.
    pub namespace: String,
    /// Its name as it is written, with the ending of authorities if it has one.
    pub name: String,
}

impl Location {
    /// Reads the name of a resource; `own` is the namespace of whoever asks. `None`: nothing of that name is in Kubernetes.
    pub fn parse(resource: &str, own: &str) -> Option<Location> {
        let (scheme, rest) = resource.split_once("://")?;
        let keeper = match scheme {
            "kubernetes-gateway" => Keeper::Gateway,
            "kubernetes" => Keeper::Secret,
            "configmap" => Keeper::ConfigMap,
            _ => return None,
        };
        let (namespace, name) = match rest.split_once('/') {
            Some(found) => found,
            None if keeper == Keeper::Secret => (own, rest),
            None => return None,
        };
        let plain = |text: &str| !text.is_empty() && !text.contains('/');
        (plain(namespace) && plain(name)).then(|| Location {
            keeper,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Whether every proxy may read a credential: authorities in a ConfigMap are no secret.
pub fn is_public(credential: &str) -> bool {
    credential.starts_with("configmap://")
}

fn over_grpc(name: &str, cluster: &str) -> SdsSecretConfig {
    let agent = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
                api_type: ApiType::Grpc.into(),
                set_node_on_first_message_only: true,
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![agent],
                ..ApiConfigSource::default()
            })),
            ..ConfigSource::default()
        }),
    }
}
