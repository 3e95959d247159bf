//! The handshake: records go in one by one, what is to be sent comes out, and at the end the keys.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::records::Records;

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// A handshake under way.
pub(crate) struct Handshake {
    side: Side,
    /// Records, or the part of them that rustls could not use yet.
    incoming: Vec<u8>,
}

/// Where a handshake is.
pub(crate) enum Step {
    /// It needs more from the peer.
    Blocked(Box<Handshake>),
    /// It is done; nothing of the input is left over.
    Done(Box<Done>),
}

/// What a handshake yields.
pub(crate) struct Done {
    pub(crate) records: Records,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) alpn: Option<Vec<u8>>,
}

enum Next {
    Again,
    Blocked,
    Done,
}

impl Handshake {
    pub(crate) fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Handshake, Error> {
        let config = if config.enable_secret_extraction {
            config.clone()
        } else {
            let mut own = ClientConfig::clone(config);
            own.enable_secret_extraction = true;
            Arc::new(own)
        };
        Ok(Handshake {
            side: Side::Client(UnbufferedClientConnection::new(config, name)?),
            incoming: Vec::new(),
        })
    }

    pub(crate) fn server(config: &Arc<ServerConfig>) -> Result<Handshake, Error> {
        let config = if config.enable_secret_extraction {
            config.clone()
        } else {
            let mut own = ServerConfig::clone(config);
            own.enable_secret_extraction = true;
            Arc::new(own)
        };
        Ok(Handshake {
            side: Side::Server(UnbufferedServerConnection::new(config)?),
            incoming: Vec::new(),
        })
    }

    /// Takes one record (or nothing, to begin) and goes as far as possible; appends what is to be sent to `out`, which
    /// after an error may be an alert.
    pub(crate) fn step(mut self: Box<Self>, record: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        self.incoming.extend_from_slice(record);
        loop {
            match self.process(out) {
                Ok(Next::Again) => {}
                Ok(Next::Blocked) => return Ok(Step::Blocked(self)),
                Ok(Next::Done) => return Ok(Step::Done(Box::new(self.finish()?))),
                Err(error) => {
                    // The alert, if there is one; it comes in a few steps at most.
                    for _ in 0..4 {
                        if !matches!(self.process(out), Ok(Next::Again)) {
                            break;
                        }
                    }
                    return Err(error);
                }
            }
        }
    }

    fn process(&mut self, out: &mut Vec<u8>) -> Result<Next, Error> {
        let (discard, next) = match &mut self.side {
            Side::Client(client) => handle(client.process_tls_records(&mut self.incoming), out),
            Side::Server(server) => handle(server.process_tls_records(&mut self.incoming), out),
        };
        self.incoming.drain(..discard);
        // A server may write before the client has finished; that is too early for us.
        match next {
            Ok(Next::Done) if self.common().is_handshaking() => Ok(Next::Blocked),
            next => next,
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    fn finish(self) -> Result<Done, Error> {
        if !self.incoming.is_empty() {
            return Err(Error::General("bytes left over at the end of the handshake".into()));
        }
        let common = self.common();
        let certificates = common
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let alpn = common.alpn_protocol().map(<[u8]>::to_vec);
        let records = match self.side {
            Side::Client(client) => {
                let (secrets, keys) = client.dangerous_into_kernel_connection()?;
                Records::client(secrets, keys)?
            }
            Side::Server(server) => {
                let (secrets, keys) = server.dangerous_into_kernel_connection()?;
                Records::server(secrets, keys)?
            }
        };
        Ok(Done {
            records,
            certificates,
            alpn,
        })
    }
}

fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) -> (usize, Result<Next, Error>) {
    let next = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            let start = out.len();
            let encoded = match message.encode(&mut []) {
                Err(EncodeError::InsufficientSize(needed)) => {
                    out.resize(start + needed.required_size, 0);
                    message.encode(&mut out[start..])
                }
                other => other,
            };
            match encoded {
                Ok(length) => {
                    out.truncate(start + length);
                    Ok(Next::Again)
                }
                Err(error) => Err(Error::General(error.to_string())),
            }
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(Error::General(
            "the peer closed the connection during the handshake".into(),
        )),
        Ok(_) => Err(Error::General("data before the end of the handshake".into())),
    };
    (status.discard, next)
}
