//! HBONE over HTTP/2 without I/O: frames, header compression, streams, flow control, the TLS tunnel.
