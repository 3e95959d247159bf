//! DNS messages (RFC 1035, RFC 6891), as far as a proxy needs them: a question is read, an answer is written, all else is passed on as it came.

use std::net::IpAddr;

use super::{Family, Found, TTL};

/// Bytes of the fixed part.
const HEADER: usize = 12;
/// What may be sent over UDP to a client that says nothing about it.
const UDP_MIN: usize = 512;
/// What is sent over UDP at most, whatever a client says.
const UDP_MAX: usize = 4096;
const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
/// The largest name in its encoded form.
const ENCODED_MAX: usize = 255;
/// A pointer to the name of the question, which always lies behind the header.
const QUESTION_POINTER: [u8; 2] = [0xc0, HEADER as u8];

/// Response codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// All is well.
    NoError = 0,
    /// The question cannot be read.
    FormErr = 1,
    /// There is no answer just now.
    ServFail = 2,
    /// Questions of this kind are not answered.
    NotImp = 4,
}

/// A message that asks one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// By which the client knows the answer.
    pub id: u16,
    /// The type asked for.
    pub kind: u16,
    /// The name asked for, in lower case and without the last dot; `None` if it is not one that text can hold.
    pub name: Option<String>,
    /// Bits that the answer repeats.
    flags: u16,
    class: u16,
    /// The question as it came.
    question: &'a [u8],
    /// How large a datagram the client takes, if it speaks of such things.
    edns: Option<u16>,
}

/// Why a message is not a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAQuery {
    /// It is not answered at all: too short, or itself an answer.
    Ignore,
    /// It is answered with this code.
    Answer(u16, Code),
}

impl<'a> Query<'a> {
    /// Reads a message.
    pub fn parse(message: &'a [u8]) -> Result<Query<'a>, NotAQuery> {
        let word = |at: usize| {
            message
                .get(at..at + 2)
                .and_then(|b| b.try_into().ok())
                .map(u16::from_be_bytes)
        };
        let (Some(id), Some(flags), Some(questions)) = (word(0), word(2), word(4)) else {
            return Err(NotAQuery::Ignore);
        };
        let (Some(answers), Some(authorities), Some(additional)) = (word(6), word(8), word(10)) else {
            return Err(NotAQuery::Ignore);
        };
        if flags & 0x8000 != 0 {
            return Err(NotAQuery::Ignore);
        }
        if flags & 0x7800 != 0 {
            return Err(NotAQuery::Answer(id, Code::NotImp));
        }
        let malformed = NotAQuery::Answer(id, Code::FormErr);
        if questions != 1 {
            return Err(malformed);
        }
        let (name, end) = read_name(message, HEADER).ok_or(malformed)?;
        let (Some(kind), Some(class)) = (word(end), word(end + 2)) else {
            return Err(malformed);
        };
        let end = end + 4;
        // The extension stands alone in what follows, in every query that resolvers send.
        let extended = answers == 0 && authorities == 0 && additional == 1 && message.get(end) == Some(&0);
        let edns = if extended && word(end + 1) == Some(TYPE_OPT) {
            word(end + 3)
        } else {
            None
        };
        Ok(Query {
            id,
            kind,
            name,
            flags,
            class,
            question: message.get(HEADER..end).ok_or(malformed)?,
            edns,
        })
    }

    /// Which addresses are asked for; `None`: something else.
    pub fn family(&self) -> Option<Family> {
        match (self.class, self.kind) {
            (CLASS_IN, TYPE_A) => Some(Family::V4),
            (CLASS_IN, TYPE_AAAA) => Some(Family::V6),
            _ => None,
        }
    }

    /// The name of the type, for metrics: those of any note, and one name for all others, so that clients cannot make up labels.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            TYPE_A => "A",
            2 => "NS",
            TYPE_CNAME => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            TYPE_AAAA => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            64 => "SVCB",
            65 => "HTTPS",
            255 => "ANY",
            257 => "CAA",
            _ => "unknown",
        }
    }

    /// The largest datagram that the client takes.
    pub fn udp_max(&self) -> usize {
        self.edns
            .map_or(UDP_MIN, |size| usize::from(size).clamp(UDP_MIN, UDP_MAX))
    }

    /// The answer with these addresses. Those that do not fit into `max` bytes are left out, and the client is told to ask over TCP.
    pub fn answer(&self, found: &Found, max: usize) -> Vec<u8> {
        let mut message = self.begin(Code::NoError, true);
        let mut count = 0_u16;
        let mut owner = QUESTION_POINTER;
        if let Some(alias_of) = &found.alias_of
            && let Some(target) = write_name(alias_of)
        {
            record(&mut message, QUESTION_POINTER, TYPE_CNAME, &target);
            count += 1;
            // The addresses are of the alias' target, which was just written.
            if let Ok(at) = u16::try_from(message.len() - target.len()) {
                owner = (0xc000 | at).to_be_bytes();
            }
        }
        let reserved = if self.edns.is_some() { OPT_LENGTH } else { 0 };
        let mut truncated = false;
        for address in &found.addresses {
            let size = 12 + if address.is_ipv4() { 4 } else { 16 };
            if message.len() + size + reserved > max || count == u16::MAX {
                truncated = true;
                break;
            }
            match address {
                IpAddr::V4(address) => record(&mut message, owner, TYPE_A, &address.octets()),
                IpAddr::V6(address) => record(&mut message, owner, TYPE_AAAA, &address.octets()),
            }
            count += 1;
        }
        message[6..8].copy_from_slice(&count.to_be_bytes());
        if truncated {
            message[2] |= 0x02;
        }
        self.end(message)
    }

    /// An answer without records.
    pub fn refuse(&self, code: Code) -> Vec<u8> {
        self.end(self.begin(code, false))
    }

    /// Whether a message from elsewhere is the answer to this question.
    pub fn is_answered_by(&self, message: &[u8]) -> bool {
        let question = message.get(HEADER..HEADER + self.question.len());
        message.get(0..2) == Some(&self.id.to_be_bytes())
            && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
            && question.is_some_and(|question| question.eq_ignore_ascii_case(self.question))
    }

    fn begin(&self, code: Code, authoritative: bool) -> Vec<u8> {
        let mut message = Vec::with_capacity(UDP_MIN);
        // An answer, what was asked for (recursion), and that we do recursion.
        let flags = 0x8000 | (self.flags & 0x0100) | 0x0080 | u16::from(code as u8);
        let flags = if authoritative { flags | 0x0400 } else { flags };
        for word in [self.id, flags, 1, 0, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(self.question);
        message
    }

    fn end(&self, mut message: Vec<u8>) -> Vec<u8> {
        if self.edns.is_some() {
            message.push(0);
            message.extend(TYPE_OPT.to_be_bytes());
            message.extend((UDP_MAX as u16).to_be_bytes());
            message.extend([0; 6]);
            message[10..12].copy_from_slice(&1_u16.to_be_bytes());
        }
        message
    }
}

const OPT_LENGTH: usize = 11;

/// The answer to a message that could not be read as a question.
pub fn refuse_unread(id: u16, code: Code) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER);
    for word in [id, 0x8080 | u16::from(code as u8), 0, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    message
}

/// A question for the addresses of a name, to be sent elsewhere.
pub fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend(write_name(name.strip_suffix('.').unwrap_or(name))?);
    let kind = if family == Family::V4 { TYPE_A } else { TYPE_AAAA };
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Some(message)
}

/// The addresses in an answer, and for how many seconds they may be kept; `None` if it is no answer, or tells of a failure other than that there
/// is no such name.
pub fn addresses(message: &[u8]) -> Option<(Vec<IpAddr>, u32)> {
    const NXDOMAIN: u16 = 3;
    let word = |at: usize| {
        message
            .get(at..at + 2)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_be_bytes)
    };
    let (flags, questions, answers) = (word(2)?, word(4)?, word(6)?);
    if flags & 0x8000 == 0 || !matches!(flags & 0xf, 0 | NXDOMAIN) {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..questions {
        at = skip_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    let mut ttl = u32::MAX;
    for _ in 0..answers {
        at = skip_name(message, at)?;
        let kind = word(at)?;
        let seconds = message.get(at + 4..at + 8)?.try_into().ok().map(u32::from_be_bytes)?;
        let length = usize::from(word(at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        let address = match kind {
            TYPE_A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => None,
        };
        if let Some(address) = address {
            found.push(address);
            ttl = ttl.min(seconds);
        }
    }
    let ttl = if found.is_empty() { 0 } else { ttl };
    Some((found, ttl))
}

fn record(message: &mut Vec<u8>, owner: [u8; 2], kind: u16, data: &[u8]) {
    message.extend(owner);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(TTL.to_be_bytes());
    // Names and addresses are far below this.
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

/// The name at a place, if it can be written as text, and where it ends. In a question there is nothing yet that could be pointed to.
fn read_name(message: &[u8], mut at: usize) -> Option<(Option<String>, usize)> {
    let begin = at;
    let mut text = Some(String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        if length > 63 || at + 1 - begin > ENCODED_MAX {
            return None;
        }
        at += 1;
        if length == 0 {
            return Some((text.filter(|text| !text.is_empty()), at));
        }
        let label = message.get(at..at + length)?;
        at += length;
        let is_plain = label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        text = text.filter(|_| is_plain).map(|mut text| {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            text
        });
    }
}

/// Where the name at a place ends; pointers are not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn write_name(name: &str) -> Option<Vec<u8>> {
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        encoded.push(length);
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    (encoded.len() <= ENCODED_MAX).then_some(encoded)
}

#[cfg(test)]
mod tests;
