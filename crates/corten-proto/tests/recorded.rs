//! Messages that stock programs sent: ours have every field of them, and say what they mean.

use corten_proto::ca::{IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse};
use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use corten_proto::zds::{WorkloadRequest, WorkloadResponse, ZdsHello, workload_request, workload_response};
use corten_proto::{Message, value::Kind};

const RECORDINGS: [&str; 4] = [
    include_str!("../recorded/ztunnel.txt"),
    include_str!("../recorded/ztunnel-comes-back.txt"),
    include_str!("../recorded/ztunnel-zds.txt"),
    include_str!("../recorded/istiod.txt"),
];

/// Who sent what.
fn messages() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let lines = RECORDINGS.iter().flat_map(|text| text.lines());
    lines.map(|line| {
        let mut words = line.split(' ');
        let (from, kind, hex) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        (
            from,
            kind,
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect(),
        )
    })
}

/// The length after being read and written again: less than before if a field is not known.
fn again<M: Message + Default>(bytes: &[u8]) -> usize {
    M::decode(bytes).expect("it can be read").encoded_len()
}

#[test]
fn no_field_is_unknown() {
    let mut count = 0;
    for (from, kind, bytes) in messages() {
        let length = match kind {
            "DeltaDiscoveryRequest" => again::<DeltaDiscoveryRequest>(&bytes),
            "DeltaDiscoveryResponse" => again::<DeltaDiscoveryResponse>(&bytes),
            "IstioCertificateRequest" => again::<IstioCertificateRequest>(&bytes),
            "IstioCertificateResponse" => again::<IstioCertificateResponse>(&bytes),
            "ZdsHello" => again::<ZdsHello>(&bytes),
            "WorkloadRequest" => again::<WorkloadRequest>(&bytes),
            "WorkloadResponse" => again::<WorkloadResponse>(&bytes),
            other => panic!("{other} is no message of ours"),
        };
        assert_eq!(length, bytes.len(), "a {kind} of {from}");
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn ztunnel_asks_for_the_certificates_of_its_pods() {
    let asked = messages().filter(|(from, kind, _)| (*from, *kind) == ("ztunnel", "IstioCertificateRequest"));
    let asked: Vec<_> = asked
        .map(|(.., bytes)| IstioCertificateRequest::decode(&*bytes).unwrap())
        .collect();
    let [request] = &asked[..] else {
        panic!("{} requests", asked.len())
    };
    assert!(request.csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    assert_eq!(request.validity_duration, 86_400);
    let identity = &request.metadata.as_ref().unwrap().fields[IMPERSONATED_IDENTITY];
    let expected = Kind::StringValue("spiffe://cluster.local/ns/orders/sa/web".to_owned());
    assert_eq!(identity.kind, Some(expected));
}

#[test]
fn a_chain_ends_with_the_root_whoever_signed() {
    let answers = messages().filter(|(_, kind, _)| *kind == "IstioCertificateResponse");
    for (from, _, bytes) in answers {
        let chain = IstioCertificateResponse::decode(&*bytes).unwrap().cert_chain;
        assert!(chain.len() >= 2, "{from}: {chain:?}");
        assert!(chain.iter().all(|it| it.starts_with("-----BEGIN CERTIFICATE-----")));
    }
}

#[test]
fn ztunnel_takes_pods_from_our_agent() {
    let mut pods = Vec::new();
    let mut unanswered = 0;
    for (from, kind, bytes) in messages() {
        match kind {
            "WorkloadRequest" => {
                unanswered += 1;
                if let Some(workload_request::Payload::Add(add)) = WorkloadRequest::decode(&*bytes).unwrap().payload {
                    let info = add.workload_info.unwrap();
                    pods.push(format!("{}/{}/{}", info.namespace, info.name, info.service_account));
                }
            }
            "WorkloadResponse" => {
                unanswered -= 1;
                assert_eq!(from, "ztunnel");
                let answer = WorkloadResponse::decode(&*bytes).unwrap().payload;
                let Some(workload_response::Payload::Ack(ack)) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(ack.error, "");
            }
            _ => {}
        }
    }
    assert_eq!((pods, unanswered), (vec!["orders/web-1/web".to_owned()], 0));
}
