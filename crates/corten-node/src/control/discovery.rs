//! What the control plane says: applied to the tables, published to the shards, kept on disk.

use std::sync::{Arc, Mutex, PoisonError};

use corten_grpc::{Channel, Target};
use corten_identity::{KeyExchange, RootSource, ServerAuthority, Token};
use corten_proto::discovery::Node;
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Struct, Value};
use corten_traffic::{Change, TablesWriter};
use corten_xds::client::{Changes, Config as XdsConfig, Known, Rejected, Subscription, Update};

use super::data_plane::DataPlane;
use super::servers::VERSION;
use super::state::State;
use crate::config::{Config, Upstream};

/// Responses of this size are taken, as the upstream proxy does.
const MESSAGE_MAX: usize = 200 << 20;

/// The one writer of the tables.
pub struct Discovery {
    data_plane: Arc<DataPlane>,
    writer: Mutex<TablesWriter>,
    state: Option<Arc<State>>,
    /// Told when both types have been received.
    ready: Box<dyn Fn() + Send + Sync>,
    received: Mutex<Vec<&'static str>>,
}

impl Discovery {
    /// With empty tables.
    pub fn new(
        data_plane: Arc<DataPlane>,
        state: Option<Arc<State>>,
        ready: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Discovery> {
        Arc::new(Discovery {
            data_plane,
            writer: Mutex::default(),
            state,
            ready: Box::new(ready),
            received: Mutex::default(),
        })
    }

    /// Applies changes from anywhere, and publishes the result.
    pub fn apply(&self, changes: Vec<Change>) -> Result<(), Vec<Rejected>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = writer.apply(changes);
        self.data_plane.common().tables.store(writer.snapshot());
        drop(writer);
        self.data_plane.tables_changed();
        outcome.map_err(|rejected| {
            let told = |one: corten_traffic::Rejected| Rejected {
                name: one.name,
                reason: one.reason,
            };
            rejected.into_iter().map(told).collect()
        })
    }

    /// Takes what was kept on disk. Returns what the control plane need not send again.
    pub fn restore(&self) -> Vec<Known> {
        let Some(state) = &self.state else { return Vec::new() };
        let kept = state.load();
        if kept.is_empty() {
            return Vec::new();
        }
        tracing::info!(resources = kept.len(), "starting with the last good configuration");
        let changes = kept
            .iter()
            .filter_map(|kept| Change::upsert(kept.type_url, &kept.name, &kept.body))
            .collect();
        let refused: Vec<String> = match self.apply(changes) {
            Ok(()) => Vec::new(),
            Err(refused) => refused.into_iter().map(|refused| refused.name).collect(),
        };
        (self.ready)();
        kept.into_iter()
            .filter(|kept| !refused.contains(&kept.name))
            .map(|kept| Known {
                type_url: kept.type_url,
                name: kept.name,
                version: kept.version,
            })
            .collect()
    }

    fn update(&self, update: Update) -> Result<(), Vec<Rejected>> {
        let metrics = &self.data_plane.common().metrics;
        match update {
            Update::Connected => {
                tracing::info!("connected to the control plane");
                Ok(())
            }
            Update::Disconnected(end) => {
                metrics.xds_terminations.add(&[("reason", end.cause.as_str())], 1);
                tracing::warn!(reason = %end.reason, retry_in = ?end.retry_in, "not connected to the control plane");
                Ok(())
            }
            Update::Changes(changes) => {
                let url = [("url", changes.type_url)];
                metrics.xds_messages.add(&url, 1);
                metrics.xds_bytes.add(&url, changes.bytes as u64);
                self.changes(&changes)
            }
        }
    }

    fn changes(&self, changes: &Changes) -> Result<(), Vec<Rejected>> {
        let removed = changes
            .removed
            .iter()
            .filter_map(|name| Change::remove(changes.type_url, name));
        let added = changes
            .resources
            .iter()
            .filter_map(|resource| Change::upsert(changes.type_url, &resource.name, &resource.body));
        let outcome = self.apply(removed.chain(added).collect());
        if let Err(refused) = &outcome {
            for Rejected { name, reason } in refused {
                tracing::warn!(
                    resource = name,
                    reason,
                    "a resource of the control plane cannot be used"
                );
            }
        }
        if let Some(state) = &self.state {
            let refused: Vec<&str> = refused_names(&outcome).collect();
            state.note(changes, &refused);
        }
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if !received.contains(&changes.type_url) {
            received.push(changes.type_url);
            if received.len() == 2 {
                (self.ready)();
            }
        }
        outcome
    }

    /// Follows the control plane until told to stop.
    pub async fn run(self: Arc<Self>, config: Arc<Config>, known: Vec<Known>, drain: corten_rt::Drain) {
        let Some(channel) = channel(&config.xds, config.connections.key_exchange) else {
            return;
        };
        let token = Token::from_setting(&config.auth_token);
        let mut headers: Vec<(String, String)> = vec![("clusterid".to_owned(), config.cluster_id.clone())];
        headers.extend(config.xds.headers.clone());
        let metadata = move || {
            let mut all = headers.clone();
            if let Some(token) = token.read()? {
                all.push(("authorization".to_owned(), format!("Bearer {token}")));
            }
            Ok(all)
        };
        let all_of = |type_url| Subscription {
            type_url,
            on_demand: false,
        };
        let session = XdsConfig {
            channel,
            node: node(&config),
            metadata: Arc::new(metadata),
            subscriptions: vec![all_of(ADDRESS_TYPE), all_of(AUTHORIZATION_TYPE)],
            message_bytes_max: MESSAGE_MAX,
        };
        corten_xds::client::run(session, known, None, |update| self.update(update), drain).await;
    }
}

fn refused_names(outcome: &Result<(), Vec<Rejected>>) -> impl Iterator<Item = &str> {
    let refused = outcome.as_ref().err();
    refused.into_iter().flatten().map(|refused| refused.name.as_str())
}

/// A channel to a server of the control plane.
pub fn channel(upstream: &Upstream, key_exchange: KeyExchange) -> Option<Channel> {
    let address = upstream.address.as_ref()?;
    let mut target = Target::new(address.host.clone(), address.port);
    target.server_name = upstream.server_name.clone().unwrap_or_default();
    if !upstream.tls {
        return Some(Channel::plaintext(target));
    }
    let authority = ServerAuthority::new(RootSource::from_setting(&upstream.root)).with_key_exchange(key_exchange);
    Some(Channel::new(target, Arc::new(move || Ok(authority.config()?))))
}

/// Who we are to the control plane.
fn node(config: &Config) -> Node {
    let mut fields = config.metadata.clone();
    let text = |value: &str| serde_json::Value::String(value.to_owned());
    let ip = config.pod.ip.map(|ip| ip.to_string());
    fields.insert("NAME".to_owned(), text(&config.pod.name));
    fields.insert("NAMESPACE".to_owned(), text(&config.pod.namespace));
    fields.insert("INSTANCE_IPS".to_owned(), text(ip.as_deref().unwrap_or("1.1.1.1")));
    fields.insert("NODE_NAME".to_owned(), text(&config.node_name));
    // Not a number alone, which istiod would take for a release of Istio and switch features by.
    fields
        .entry("ISTIO_VERSION".to_owned())
        .or_insert_with(|| text(&format!("corten-{VERSION}")));
    fields
        .entry("CLUSTER_ID".to_owned())
        .or_insert_with(|| text(&config.cluster_id));
    if !config.pod.service_account.is_empty() {
        fields.insert("SERVICE_ACCOUNT".to_owned(), text(&config.pod.service_account));
    }
    Node {
        id: config.node_id(),
        metadata: Some(Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, proto_value(value)))
                .collect(),
        }),
        user_agent_name: "corten-node".to_owned(),
        ..Node::default()
    }
}

fn proto_value(value: serde_json::Value) -> Value {
    use corten_proto::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(proto_value).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, proto_value(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}
