//! Addresses given to the hosts of ServiceEntries, in their status.

use std::net::IpAddr;

use corten_core::NamespacedName;
use kube::Client;
use serde_json::{Value, json};

use crate::kinds::SERVICE_ENTRIES;
use crate::status::path;

/// Writes the addresses of a ServiceEntry's hosts, in the place of those that were there. An entry that is gone needs none.
pub async fn write_addresses(
    client: &Client,
    entry: &NamespacedName,
    addresses: &[(String, IpAddr)],
) -> Result<(), kube::Error> {
    let listed: Vec<Value> = addresses
        .iter()
        .map(|(host, address)| json!({"host": host, "value": address}))
        .collect();
    let body = json!({"status": {"addresses": listed}});
    let patch = http::Request::patch(format!(
        "{}/status?fieldManager=istio-ip-autoallocate",
        path(&SERVICE_ENTRIES, entry)
    ))
    .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
    .body(body.to_string().into_bytes())
    .map_err(kube::Error::HttpError)?;
    match client.request::<Value>(patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}
