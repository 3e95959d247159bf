//! The Secrets and ConfigMaps that the control plane itself keeps: read, and written only over the version that was read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// A Secret as it was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretData {
    /// The entries.
    pub data: BTreeMap<String, Vec<u8>>,
    /// The version that was read; empty: there was no such Secret.
    pub version: String,
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.data.keys().collect();
        f.debug_struct("SecretData")
            .field("entries", &names)
            .field("version", &self.version)
            .finish()
    }
}

/// A Secret cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// Another has written it since; read it again.
    #[error("{what} was changed by another at the same time")]
    Conflict {
        /// What.
        what: String,
    },
    /// The API server refuses, or cannot be reached.
    #[error("cannot {verb} {what}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The Secrets and ConfigMaps of one namespace.
#[derive(Clone)]
pub struct SecretStore {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    namespace: String,
}

impl std::fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretStore").field(&self.namespace).finish()
    }
}

impl SecretStore {
    /// Of a namespace.
    pub fn new(client: Client, namespace: &str) -> SecretStore {
        SecretStore {
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    /// A Secret; without entries and version when there is none.
    pub async fn secret(&self, name: &str) -> Result<SecretData, SecretStoreError> {
        let found = self
            .secrets
            .get_opt(name)
            .await
            .map_err(|error| self.failed("read Secret", name, error))?;
        Ok(found.map(secret_data).unwrap_or_default())
    }

    /// Writes a Secret over the version that was read, or makes it when there was none. Returns it as it is now.
    pub async fn write_secret(
        &self,
        name: &str,
        kind: &str,
        secret: &SecretData,
    ) -> Result<SecretData, SecretStoreError> {
        let entries = secret
            .data
            .iter()
            .map(|(key, value)| (key.clone(), ByteString(value.clone())));
        let object = Secret {
            metadata: self.metadata(name, &secret.version),
            type_: Some(kind.to_owned()),
            data: Some(entries.collect()),
            ..Secret::default()
        };
        let parameters = PostParams::default();
        let written = if secret.version.is_empty() {
            self.secrets.create(&parameters, &object).await
        } else {
            self.secrets.replace(name, &parameters, &object).await
        };
        written
            .map(secret_data)
            .map_err(|error| self.failed("write Secret", name, error))
    }

    /// The entries of a ConfigMap; `None`: there is none.
    pub async fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, SecretStoreError> {
        let found = self
            .config_maps
            .get_opt(name)
            .await
            .map_err(|error| self.failed("read ConfigMap", name, error))?;
        Ok(found.map(|found| found.data.unwrap_or_default()))
    }

    fn metadata(&self, name: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            resource_version: Some(version.to_owned()).filter(|version| !version.is_empty()),
            ..ObjectMeta::default()
        }
    }

    fn failed(&self, verb: &'static str, name: &str, error: kube::Error) -> SecretStoreError {
        let what = format!("{}/{name}", self.namespace);
        match &error {
            kube::Error::Api(status) if status.code == 409 => SecretStoreError::Conflict { what },
            _ => SecretStoreError::Api {
                verb,
                what,
                source: Box::new(error),
            },
        }
    }
}

fn secret_data(secret: Secret) -> SecretData {
    let entries = secret.data.unwrap_or_default();
    SecretData {
        data: entries.into_iter().map(|(key, value)| (key, value.0)).collect(),
        version: secret.metadata.resource_version.unwrap_or_default(),
    }
}
