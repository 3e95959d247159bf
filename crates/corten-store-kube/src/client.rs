//! The way to an API server.

use std::path::PathBuf;

use kube::config::KubeConfigOptions;

/// Where the API server's address and our credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kubeconfig {
    /// The service account of the pod we run in.
    InCluster,
    /// A kubeconfig file, with its current context.
    File(PathBuf),
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not in a pod.
    #[error("not running in a pod of a cluster ({0}); set KUBECONFIG to the path of a kubeconfig file")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The file is missing or wrong.
    #[error("cannot use the kubeconfig {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The credentials cannot be used.
    #[error("cannot make a client for the API server {server}: {source}")]
    Client {
        /// Its URL.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Log levels with those of the client's own words: what it says of every attempt is said here once.
pub fn log_levels(levels: &str) -> String {
    if levels.contains("kube") {
        return levels.to_owned();
    }
    format!("{levels},kube_runtime::watcher=error")
}

/// A client. Nothing is sent yet.
pub async fn client(place: &Kubeconfig) -> Result<kube::Client, ClientError> {
    let config = match place {
        Kubeconfig::InCluster => {
            kube::Config::incluster().map_err(|source| ClientError::InCluster(Box::new(source)))?
        }
        Kubeconfig::File(path) => {
            let failed = |source| ClientError::File {
                path: path.clone(),
                source: Box::new(source),
            };
            let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(failed)?
        }
    };
    let server = config.cluster_url.to_string();
    kube::Client::try_from(config).map_err(|source| ClientError::Client {
        server,
        source: Box::new(source),
    })
}
