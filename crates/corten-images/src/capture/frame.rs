//! What a captured frame carries: the ports and the payload of a TCP segment. Pure.

/// An Ethernet header; 802.1Q tags are not expected between nodes.
const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;

/// A TCP segment of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) payload: &'a [u8],
}

impl Segment<'_> {
    /// The port that is likely the server's: well-known or registered, not one that clients are given.
    pub(super) fn server_port(&self) -> u16 {
        self.source.min(self.destination)
    }
}

/// The segment in an Ethernet frame; `None` for everything else, IPv6 extension headers included.
pub(super) fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let number = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let packet = frame.get(ETHERNET..)?;
    let tcp = match number(frame, 12)? {
        IPV4 if *packet.get(9)? == TCP => {
            let header = usize::from(packet[0] & 0xf) * 4;
            packet.get(header..usize::from(number(packet, 2)?))?
        }
        IPV6 if *packet.get(6)? == TCP => packet.get(40..40 + usize::from(number(packet, 4)?))?,
        _ => return None,
    };
    let header = usize::from(*tcp.get(12)? >> 4) * 4;
    Some(Segment {
        source: number(tcp, 0)?,
        destination: number(tcp, 2)?,
        payload: tcp.get(header..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment from port 40000 to `port`, with a header of 20 bytes.
    fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[..2].copy_from_slice(&40_000_u16.to_be_bytes());
        segment[2..4].copy_from_slice(&port.to_be_bytes());
        segment[12] = 5 << 4;
        segment.extend_from_slice(payload);
        segment
    }

    fn frame(kind: u16, mut packet: Vec<u8>, segment: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&kind.to_be_bytes());
        packet.extend_from_slice(segment);
        let length = u16::try_from(if kind == IPV4 { packet.len() } else { segment.len() }).expect("short");
        let at = if kind == IPV4 { 2 } else { 4 };
        packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&packet);
        frame
    }

    #[test]
    fn segments_are_found_in_both_families() {
        let mut v4 = vec![0; 24];
        (v4[0], v4[9]) = (0x46, TCP);
        let mut v6 = vec![0; 40];
        (v6[0], v6[6]) = (0x60, TCP);
        for (kind, packet) in [(IPV4, v4), (IPV6, v6)] {
            // What pads a short frame is not payload.
            let mut frame = frame(kind, packet, &tcp(8080, b"hello"));
            frame.extend_from_slice(&[0; 9]);
            let found = segment(&frame).expect("a segment");
            assert_eq!((found.server_port(), found.payload), (8080, &b"hello"[..]));
        }
    }

    #[test]
    fn cut_frames_and_other_protocols_are_nothing() {
        let mut v4 = vec![0; 20];
        (v4[0], v4[9]) = (0x45, TCP);
        let whole = frame(IPV4, v4.clone(), &tcp(8080, b"hello"));
        for length in 0..whole.len() {
            assert_eq!(segment(&whole[..length]), None, "{length}");
        }
        v4[9] = 17;
        assert_eq!(segment(&frame(IPV4, v4, &tcp(53, b"x"))), None);
    }
}
