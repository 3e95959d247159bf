//! Limits and sizes of a connection.

/// What this end of a connection allows and asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many streams the peer may have open at a time (server).
    pub streams_max: u32,
    /// How many streams we open before the peer has said how many it allows (client).
    pub assumed_streams_max: u32,
    /// Bytes the peer may send on a fresh stream before we give back credit.
    pub stream_window: u32,
    /// How far the window of a stream grows while its reader keeps up and the sender is held back by the window alone.
    pub stream_window_max: u32,
    /// Bytes the peer may send on all streams together.
    pub connection_window: u32,
    /// The largest frame the peer may send.
    pub frame_size_max: u32,
    /// The largest frame we send, if the peer allows it.
    pub send_frame_size_max: u32,
    /// The largest list of header fields taken, with 32 bytes for each field.
    pub header_list_size_max: u32,
    /// The dynamic table that the peer may use for header compression.
    pub header_table_size: u32,
    /// Bytes of stream data that gather for one write, before streams are held back.
    pub output_bytes: usize,
    /// What is too much of what costs us something and the peer nothing.
    pub flood: FloodLimits,
}

impl Settings {
    /// What ztunnel tells its servers, with smaller windows that grow.
    pub fn client() -> Settings {
        Settings {
            streams_max: 0,
            assumed_streams_max: 100,
            stream_window: 256 << 10,
            stream_window_max: 4 << 20,
            connection_window: 16 << 20,
            frame_size_max: 1 << 20,
            send_frame_size_max: 1 << 20,
            header_list_size_max: 16 << 10,
            header_table_size: 4096,
            output_bytes: 256 << 10,
            flood: FloodLimits::default(),
        }
    }

    /// What ztunnel tells its clients, with smaller windows that grow.
    pub fn server() -> Settings {
        Settings {
            streams_max: 200,
            assumed_streams_max: 0,
            header_list_size_max: 64 << 10,
            ..Settings::client()
        }
    }
}

/// How much of each is taken between two calls of [`Connection::tick`](super::Connection::tick), which a driver makes about
/// once a second. More ends the connection with ENHANCE_YOUR_CALM.
#[derive(Clone, Debug)]
pub struct FloodLimits {
    /// Streams that the peer resets before we answered them.
    pub resets: u32,
    /// PING frames.
    pub pings: u32,
    /// SETTINGS frames.
    pub settings: u32,
    /// Frames that carry nothing: empty DATA, PRIORITY, WINDOW_UPDATE that are not needed, unknown types.
    pub idle_frames: u32,
    /// Streams that we reset because the peer broke a rule on them.
    pub errors: u32,
    /// CONTINUATION frames of one header block.
    pub continuations: u32,
}

impl Default for FloodLimits {
    fn default() -> FloodLimits {
        FloodLimits {
            resets: 1000,
            pings: 200,
            settings: 100,
            idle_frames: 2000,
            errors: 200,
            continuations: 64,
        }
    }
}
