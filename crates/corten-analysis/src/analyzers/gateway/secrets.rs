//! The secrets of gateways: whether they are there, and hold a certificate that is valid now.

use corten_api::kubernetes::core::Secret;
use x509_parser::pem::Pem;

use super::no_pods;
use crate::catalogue;
use crate::objects::World;
use crate::report::Report;
use crate::selector;

/// The names under which secrets keep certificate and key.
const KEYS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];

pub(crate) fn secrets(world: &World, report: &mut Report) {
    for gateway in &world.gateways {
        let mut pods = world.pods.iter();
        let Some(pod) = pods.find(|pod| selector::matches(&gateway.spec.selector, &pod.object.labels)) else {
            no_pods(gateway, report);
            continue;
        };
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let Some(wanted) = server
                .tls
                .as_ref()
                .map(|tls| tls.credential_name.as_str())
                .filter(|name| !name.is_empty())
            else {
                continue;
            };
            // Secrets are looked up where the gateway runs.
            let key = wanted
                .split_once('/')
                .unwrap_or_else(|| (pod.object.namespace(), wanted));
            let path = format!("spec.servers[{index}].tls.credentialName");
            match world.secrets.iter().find(|secret| secret.object.key() == key) {
                None => {
                    let parameters = [("reftype", "credentialName"), ("refval", wanted)];
                    report.add(
                        &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
                        &gateway.object,
                        &path,
                        &parameters,
                    );
                }
                Some(secret) if !is_valid(&secret.spec, world.now_seconds) => {
                    let parameters = [
                        ("gatewayName", gateway.object.name()),
                        ("gatewayNamespace", pod.object.namespace()),
                    ];
                    report.add(
                        &catalogue::INVALID_GATEWAY_CREDENTIAL,
                        &gateway.object,
                        &path,
                        &parameters,
                    );
                }
                Some(_) => {}
            }
        }
    }
}

fn is_valid(secret: &Secret, now_seconds: i64) -> bool {
    let value = |key: &str| {
        let data = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice());
        let text = secret
            .string_data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(String::as_bytes);
        // What is written as text replaces the data when it is applied.
        text.or(data).filter(|bytes| !bytes.is_empty())
    };
    let pair = KEYS
        .iter()
        .find_map(|(certificate, key)| value(key).and_then(|_| value(certificate)));
    let Some(certificate) = pair else { return false };
    let Some(Ok(pem)) = Pem::iter_from_buffer(certificate).next() else {
        return false;
    };
    pem.parse_x509().is_ok_and(|certificate| {
        let validity = certificate.validity();
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now_seconds)
    })
}
