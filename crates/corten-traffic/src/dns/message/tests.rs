//! Questions and answers as bytes.

use std::{net::IpAddr, sync::Arc};

use super::*;
use crate::{name::Interner, service};

fn found(alias_of: Option<&str>, addresses: &[&str]) -> Found {
    let message = corten_proto::workload::Service {
        hostname: "h".to_owned(),
        ..Default::default()
    };
    Found {
        service: Arc::new(service::parse(message, &mut Interner::default()).unwrap()),
        alias_of: alias_of.map(str::to_owned),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn with_edns(mut message: Vec<u8>, size: u16) -> Vec<u8> {
    message[11] = 1;
    message.push(0);
    message.extend(41_u16.to_be_bytes());
    message.extend(size.to_be_bytes());
    message.extend([0; 6]);
    message
}

#[test]
fn a_question_is_read() {
    let message = question(0x1234, "Web.NS.", Family::V6).unwrap();
    let query = Query::parse(&message).unwrap();
    assert_eq!(
        (query.id, query.name.as_deref(), query.family()),
        (0x1234, Some("web.ns"), Some(Family::V6))
    );
    assert_eq!((query.kind_name(), query.udp_max()), ("AAAA", 512));
    let message = with_edns(message, 1232);
    assert_eq!(Query::parse(&message).unwrap().udp_max(), 1232);
    let message = with_edns(question(1, "a", Family::V4).unwrap(), 65535);
    assert_eq!(Query::parse(&message).unwrap().udp_max(), 4096);
}

#[test]
fn what_is_no_question() {
    let good = question(7, "a.b", Family::V4).unwrap();
    let with = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        message
    };
    assert_eq!(Query::parse(&[]), Err(NotAQuery::Ignore));
    assert_eq!(Query::parse(&good[..11]), Err(NotAQuery::Ignore));
    assert_eq!(Query::parse(&with(2, 0x81)), Err(NotAQuery::Ignore));
    assert_eq!(Query::parse(&with(2, 0x28)), Err(NotAQuery::Answer(7, Code::NotImp)));
    let malformed = Err(NotAQuery::Answer(7, Code::FormErr));
    assert_eq!(Query::parse(&with(5, 2)), malformed);
    assert_eq!(Query::parse(&with(5, 0)), malformed);
    assert_eq!(Query::parse(&with(12, 0xc0)), malformed);
    for end in 12..good.len() {
        assert_eq!(Query::parse(&good[..end]), malformed);
    }
    assert_eq!(
        refuse_unread(7, Code::FormErr),
        [0, 7, 0x80, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    // Names that text cannot hold are read, and are nobody's.
    assert_eq!(Query::parse(&with(13, b'.')).unwrap().name, None);
    assert_eq!(Query::parse(&with(13, 0xff)).unwrap().name, None);
}

#[test]
fn an_answer_is_written() {
    let message = with_edns(question(7, "Web.Ns", Family::V4).unwrap(), 4096);
    let query = Query::parse(&message).unwrap();
    let answer = query.answer(&found(None, &["10.0.0.1", "10.0.0.2"]), query.udp_max());
    assert_eq!(answer[..12], [0, 7, 0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 1]);
    // The question comes back letter by letter.
    assert_eq!(answer[12..24], *b"\x03Web\x02Ns\0\0\x01\0\x01");
    assert_eq!(answer[24..40], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]);
    assert_eq!(answer[56..], [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    assert!(query.is_answered_by(&answer));
    let expected: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    assert_eq!(addresses(&answer), Some((expected, 30)));
    assert_eq!(addresses(&query.answer(&found(None, &[]), 512)), Some((vec![], 0)));
    assert_eq!(addresses(&query.refuse(Code::ServFail)), None);
    assert_eq!(query.refuse(Code::ServFail)[3], 0x82);
}

#[test]
fn an_alias_comes_first() {
    let message = question(7, "web.ns.svc.cluster.local", Family::V4).unwrap();
    let query = Query::parse(&message).unwrap();
    let answer = query.answer(&found(Some("web"), &["10.0.0.1"]), 512);
    let records = &answer[12 + query.question.len()..];
    assert_eq!(records[..17], *b"\xc0\x0c\0\x05\0\x01\0\0\0\x1e\0\x05\x03web\0");
    let at = (12 + query.question.len() + 12) as u8;
    assert_eq!(records[17..], [0xc0, at, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]);
    assert_eq!(answer[7], 2);
}

#[test]
fn what_does_not_fit_is_left_out() {
    let message = question(7, "web", Family::V6).unwrap();
    let query = Query::parse(&message).unwrap();
    let many: Vec<String> = (0..100).map(|i| format!("fd00::{i}")).collect();
    let many = found(None, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = query.answer(&many, 512);
    assert!(answer.len() <= 512);
    assert_eq!(answer[2] & 2, 2);
    assert_eq!(addresses(&answer).unwrap().0.len(), usize::from(answer[7]));
    let answer = query.answer(&many, 65535);
    assert_eq!((answer[2] & 2, answer[7]), (0, 100));
}

#[test]
fn names_have_limits() {
    assert_eq!(question(1, "", Family::V4), None);
    assert_eq!(question(1, "a..b", Family::V4), None);
    assert_eq!(question(1, &"a".repeat(64), Family::V4), None);
    assert!(question(1, &"a".repeat(63), Family::V4).is_some());
    assert_eq!(question(1, &["a"; 200].join("."), Family::V4), None);
}
