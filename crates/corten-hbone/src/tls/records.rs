//! Records after the handshake: opening, sealing, alerts and key updates (RFC 8446 §4.6, §5, §6).

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::quic::PacketKey;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved,
    ProtocolVersion, SupportedCipherSuite,
};

use super::HEAD_BYTES;

/// The most that a record carries.
pub(crate) const PLAIN_MAX: usize = 16 << 10;
/// What sealing adds to a record, at most: head, kind or explicit nonce, tag.
const OVERHEAD: usize = 32;
/// The longest message that may come after the handshake: a session ticket, which we do not use.
const MESSAGE_MAX: usize = 64 << 10;
/// Records without data in a row; more is a flood.
const IDLE_MAX: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Who can derive the next keys.
enum Keys {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Keys {
    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Keys::Client(keys) => keys.negotiated_cipher_suite(),
            Keys::Server(keys) => keys.negotiated_cipher_suite(),
        }
    }

    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Keys::Client(keys) => keys.update_tx_secret(),
            Keys::Server(keys) => keys.update_tx_secret(),
        }
    }

    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Keys::Client(keys) => keys.update_rx_secret(),
            Keys::Server(keys) => keys.update_rx_secret(),
        }
    }
}

/// What seals our records.
enum Sealer {
    /// The cipher as rustls offers it to QUIC, which protects packets as TLS 1.3 protects records: with the number of the
    /// record mixed into the nonce, and in place. The other form allocates and copies each record once more.
    InPlace(Box<dyn PacketKey>),
    /// For TLS 1.2, and ciphers without the above.
    Apart(Box<dyn MessageEncrypter>),
}

/// Both directions of an established connection.
pub(crate) struct Records {
    keys: Keys,
    opener: Box<dyn MessageDecrypter>,
    opened: u64,
    sealer: Sealer,
    sealed: u64,
    /// How many records one key may seal (RFC 8446 §5.5), with a margin.
    sealed_max: u64,
    /// The peer has asked for a new key of ours.
    update_wanted: bool,
    /// The beginning of a message that goes on in the next record.
    message: Vec<u8>,
    idle: u32,
}

/// What a record held.
pub(crate) enum Opened<'b> {
    Data(&'b [u8]),
    /// Something between the two ends.
    Nothing,
    /// The peer sends no more.
    Closed,
}

impl Records {
    pub(super) fn client(
        secrets: ExtractedSecrets,
        keys: KernelConnection<ClientConnectionData>,
    ) -> Result<Records, Error> {
        Records::new(secrets, Keys::Client(keys))
    }

    pub(super) fn server(
        secrets: ExtractedSecrets,
        keys: KernelConnection<ServerConnectionData>,
    ) -> Result<Records, Error> {
        Records::new(secrets, Keys::Server(keys))
    }

    fn new(secrets: ExtractedSecrets, keys: Keys) -> Result<Records, Error> {
        let suite = keys.suite();
        let limit = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        Ok(Records {
            opener: opener(suite, secrets.rx.1)?,
            opened: secrets.rx.0,
            sealer: sealer(suite, secrets.tx.1, secrets.tx.0)?,
            sealed: secrets.tx.0,
            sealed_max: limit.saturating_sub(1 << 12),
            update_wanted: false,
            message: Vec::new(),
            idle: 0,
            keys,
        })
    }

    /// Opens a record in place.
    pub(crate) fn open<'b>(&mut self, record: &'b mut [u8]) -> Result<Opened<'b>, Error> {
        let Some((head, sealed)) = record.split_first_chunk_mut::<HEAD_BYTES>() else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        let kind = ContentType::from(head[0]);
        if kind == ContentType::ChangeCipherSpec {
            return Err(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into());
        }
        if self.opened == u64::MAX {
            return Err(Error::DecryptError);
        }
        let message = InboundOpaqueMessage::new(kind, ProtocolVersion::TLSv1_2, sealed);
        let plain = self.opener.decrypt(message, self.opened)?;
        self.opened += 1;
        if plain.typ != ContentType::Handshake && !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        match plain.typ {
            ContentType::ApplicationData if !plain.payload.is_empty() => {
                self.idle = 0;
                return Ok(Opened::Data(plain.payload));
            }
            ContentType::ApplicationData => {}
            ContentType::Alert => {
                let &[_, description] = plain.payload else {
                    return Err(InvalidMessage::TrailingData("Alert").into());
                };
                match AlertDescription::from(description) {
                    AlertDescription::CloseNotify => return Ok(Opened::Closed),
                    AlertDescription::UserCanceled => {}
                    other => return Err(Error::AlertReceived(other)),
                }
            }
            ContentType::Handshake => {
                let payload = plain.payload;
                self.messages(payload)?;
            }
            got => {
                return Err(Error::InappropriateMessage {
                    expect_types: vec![ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake],
                    got_type: got,
                });
            }
        }
        self.idle += 1;
        if self.idle > IDLE_MAX {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(Opened::Nothing)
    }

    /// Messages after the handshake: new keys, and tickets that we have no use for.
    fn messages(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.message.extend_from_slice(payload);
        while let Some(&[kind, l0, l1, l2]) = self.message.first_chunk() {
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if length > MESSAGE_MAX {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            if self.message.len() < 4 + length {
                break;
            }
            let body = &self.message[4..4 + length];
            let last = self.message.len() == 4 + length;
            match (kind, body) {
                (KEY_UPDATE, [request @ 0..=1]) if matches!(self.keys.suite(), SupportedCipherSuite::Tls13(_)) => {
                    // What follows is sealed with another key, so nothing can follow in this record.
                    if !last {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.update_wanted |= *request == 1;
                    let (opened, secrets) = self.keys.next_to_receive()?;
                    self.opener = opener(self.keys.suite(), secrets)?;
                    self.opened = opened;
                }
                (NEW_SESSION_TICKET, _) if matches!(self.keys, Keys::Client(_)) => {}
                (KEY_UPDATE, _) => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                _ => return Err(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into()),
            }
            self.message.drain(..4 + length);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    /// Seals data into as few records as possible and appends them to `out`.
    pub(crate) fn seal(&mut self, data: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut rest = OutboundChunks::new(data);
        out.reserve(rest.len() + (rest.len() / PLAIN_MAX + 1) * OVERHEAD);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(PLAIN_MAX);
            if self.update_wanted || self.sealed >= self.sealed_max {
                self.renew(0, out)?;
            }
            self.seal_one(ContentType::ApplicationData, &part, out)?;
            rest = after;
        }
        Ok(())
    }

    /// Seals an alert: the last thing that is sent.
    pub(crate) fn seal_alert(&mut self, description: AlertDescription, out: &mut Vec<u8>) -> Result<(), Error> {
        let level = if description == AlertDescription::CloseNotify {
            1
        } else {
            2
        };
        let alert = [level, description.into()];
        self.seal_one(ContentType::Alert, &OutboundChunks::Single(&alert), out)
    }

    /// Tells the peer that our next record has a new key, and takes that. `request` asks the peer to do the same.
    fn renew(&mut self, request: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        self.update_wanted = false;
        if !matches!(self.keys.suite(), SupportedCipherSuite::Tls13(_)) {
            return Err(Error::EncryptError);
        }
        let message = [KEY_UPDATE, 0, 0, 1, request];
        self.seal_one(ContentType::Handshake, &OutboundChunks::Single(&message), out)?;
        let (sealed, secrets) = self.keys.next_to_send()?;
        self.sealer = sealer(self.keys.suite(), secrets, sealed)?;
        self.sealed = sealed;
        Ok(())
    }

    /// Makes the key of this side good for fewer records.
    #[cfg(test)]
    pub(crate) fn wear_out_after(&mut self, records: u64) {
        self.sealed_max = records;
    }

    /// Renews our key and asks the peer to do the same.
    #[cfg(test)]
    pub(crate) fn ask_for_renewal(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.renew(1, out)
    }

    fn seal_one(&mut self, kind: ContentType, payload: &OutboundChunks<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match &mut self.sealer {
            Sealer::InPlace(key) => {
                // The kind of a record is inside (RFC 8446 §5.2); outside all look like data of TLS 1.2.
                let length = payload.len() + 1 + key.tag_len();
                let head = [23, 3, 3, (length >> 8) as u8, length as u8];
                out.extend_from_slice(&head);
                let start = out.len();
                payload.copy_to_vec(out);
                out.push(kind.into());
                let tag = key.encrypt_in_place(self.sealed, &head, &mut out[start..])?;
                out.extend_from_slice(tag.as_ref());
            }
            Sealer::Apart(sealer) => {
                let record = sealer.encrypt(plain(kind, payload.clone()), self.sealed)?;
                out.extend_from_slice(&record.encode());
            }
        }
        self.sealed += 1;
        Ok(())
    }
}

fn key_and_iv(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher that is not known here".into())),
    }
}

fn opener(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
        }
    })
}

/// The sealer of a key of which `sealed` records have been used up.
fn sealer(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets, sealed: u64) -> Result<Sealer, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    let mut sealer = match suite {
        SupportedCipherSuite::Tls13(suite) => match suite.quic {
            Some(quic) => return Ok(Sealer::InPlace(quic.packet_key(key, iv))),
            None => suite.aead_alg.encrypter(key, iv),
        },
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            let (fixed, explicit) = iv.as_ref().split_at(fixed);
            suite.aead_alg.encrypter(key, fixed, explicit)
        }
    };
    if sealed > 0 {
        // AWS-LC takes the first nonce it sees for that of record zero, and refuses later ones that do not increase
        // relative to it. So it is shown that one first; the result goes nowhere.
        sealer.encrypt(plain(ContentType::ApplicationData, OutboundChunks::Single(&[])), 0)?;
    }
    Ok(Sealer::Apart(sealer))
}

fn plain(typ: ContentType, payload: OutboundChunks<'_>) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage {
        typ,
        version: ProtocolVersion::TLSv1_2,
        payload,
    }
}
