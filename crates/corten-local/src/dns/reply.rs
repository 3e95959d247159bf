//! From the bytes of a question to those of an answer, or to what must be asked elsewhere. Pure; any bytes are safe.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::names::{Found, Zone};
use crate::services::Catalog;

/// What we take by UDP: no more than survives unfragmented on any path.
const UDP_BYTES_MAX: u16 = 1232;
/// Aliases of aliases, at most; more are taken for a circle.
const ALIASES_MAX: usize = 8;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer must fit what the client takes.
    Udp,
    /// In a stream.
    Tcp,
}

/// What to do about a question.
#[derive(Debug)]
pub enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// Send nothing: it was no question.
    Ignore,
    /// Ask elsewhere, then [`Forward::finish`].
    Forward(Box<Forward>),
}

/// A question for somebody else.
#[derive(Debug)]
pub struct Forward {
    /// What to ask; its id is the client's.
    pub question: Vec<u8>,
    request: Message,
    /// Aliases of ours that led there.
    aliases: Vec<Record>,
    transport: Transport,
}

/// Answers a question. `turn` rotates the records, so that clients that take the first spread over all.
pub fn answer(catalog: &Catalog, zone: &Zone, bytes: &[u8], transport: Transport, turn: usize) -> Outcome {
    let Ok(request) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    if request.metadata.message_type != MessageType::Query {
        return Outcome::Ignore;
    }
    let refuse = |code| Outcome::Reply(encode(response(&request, code), &request, transport));
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [query] = request.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) && zone.has(query.name()) {
        return refuse(ResponseCode::Refused);
    }
    let query = query.clone();
    resolve(catalog, zone, request, &query, transport, turn)
}

fn resolve(
    catalog: &Catalog,
    zone: &Zone,
    request: Message,
    query: &Query,
    transport: Transport,
    turn: usize,
) -> Outcome {
    let mut name: Name = query.name().clone();
    let mut aliases: Vec<Record> = Vec::new();
    let mut code = ResponseCode::NoError;
    let mut records = Vec::new();
    loop {
        match zone.find(catalog, &name, query.query_type()) {
            Found::Records(found) => records = found,
            Found::Nothing => code = ResponseCode::NXDomain,
            Found::Alias(alias) => {
                let (record, target) = *alias;
                aliases.push(record);
                if aliases.len() > ALIASES_MAX {
                    let reply = response(&request, ResponseCode::ServFail);
                    return Outcome::Reply(encode(reply, &request, transport));
                }
                if query.query_type() != RecordType::CNAME {
                    name = target;
                    continue;
                }
            }
            Found::Elsewhere => {
                let mut question = Message::query();
                question.metadata.id = request.metadata.id;
                question.metadata.recursion_desired = true;
                question.add_query(Query::query(name, query.query_type()));
                question.set_edns(offer());
                return match question.to_vec() {
                    Ok(question) => Outcome::Forward(Box::new(Forward {
                        question,
                        request,
                        aliases,
                        transport,
                    })),
                    Err(_) => Outcome::Reply(encode(response(&request, ResponseCode::ServFail), &request, transport)),
                };
            }
        }
        break;
    }
    let mut reply = response(&request, code);
    reply.metadata.authoritative = true;
    if !records.is_empty() {
        let middle = turn % records.len();
        records.rotate_left(middle);
    } else if aliases.is_empty() {
        reply.authorities.extend(zone.authority());
    }
    reply.answers = aliases;
    reply.answers.append(&mut records);
    Outcome::Reply(encode(reply, &request, transport))
}

impl Forward {
    /// The answer to the client, from what was answered elsewhere; `None` when nobody did.
    pub fn finish(&self, answered: Option<&[u8]>) -> Vec<u8> {
        let answered = answered.and_then(|bytes| Message::from_vec(bytes).ok());
        let Some(answered) = answered else {
            return encode(
                response(&self.request, ResponseCode::ServFail),
                &self.request,
                self.transport,
            );
        };
        let mut reply = response(&self.request, answered.metadata.response_code);
        reply.metadata.truncation = answered.metadata.truncation;
        reply.answers.clone_from(&self.aliases);
        reply.answers.extend(answered.answers);
        reply.authorities = answered.authorities;
        encode(reply, &self.request, self.transport)
    }

    /// The answer where nobody may be asked: it says so at once, and the client need not wait.
    pub fn refused(&self) -> Vec<u8> {
        let mut reply = response(&self.request, ResponseCode::Refused);
        reply.metadata.recursion_available = false;
        // An alias of ours is an answer all the same.
        if !self.aliases.is_empty() {
            reply.metadata.response_code = ResponseCode::NoError;
            reply.answers.clone_from(&self.aliases);
        }
        encode(reply, &self.request, self.transport)
    }
}

fn offer() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    edns
}

fn response(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&request.queries);
    reply
}

/// The bytes, cut to what the client takes; a cut answer tells it to ask again by TCP.
fn encode(mut reply: Message, request: &Message, transport: Transport) -> Vec<u8> {
    let client = request.edns.as_ref().map(Edns::max_payload);
    if client.is_some() {
        let mut edns = offer();
        edns.set_rcode_high((u16::from(reply.metadata.response_code) >> 4) as u8);
        reply.set_edns(edns);
    }
    let max = match transport {
        Transport::Udp => usize::from(client.unwrap_or(512).clamp(512, UDP_BYTES_MAX)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let bytes = reply.to_vec().unwrap_or_default();
    if !bytes.is_empty() && bytes.len() <= max {
        return bytes;
    }
    reply.answers.clear();
    reply.authorities.clear();
    reply.additionals.clear();
    reply.metadata.truncation = true;
    reply.to_vec().unwrap_or_default()
}

/// What cannot be read gets an answer only if it has an id and was meant as a question.
fn malformed(bytes: &[u8]) -> Outcome {
    const RESPONSE: u8 = 0x80;
    match bytes {
        [high, low, flags, ..] if bytes.len() >= 12 && flags & RESPONSE == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            Outcome::Reply(reply.to_vec().unwrap_or_default())
        }
        _ => Outcome::Ignore,
    }
}
