//! `corten-capture`: looks at the packets that pass through a network namespace, counts TCP payload by server port, and searches it for texts.
//!
//! It answers one question: is what travels between two nodes readable? Needs the capability `NET_RAW`.

mod frame;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket};
use serde::Serialize;

/// All protocols, as the kernel wants it: in network byte order.
const ETH_P_ALL: u16 = 0x0003_u16.to_be();
/// Larger than any frame, also one that the kernel has put together from several.
const FRAME_MAX: usize = 128 * 1024;

/// Look at the packets that pass, count TCP payload by server port, and search it for texts.
#[derive(Debug, clap::Parser)]
#[command(name = "corten-capture", version)]
pub struct Arguments {
    /// Text to look for in the payload (repeatable)
    #[arg(long, value_name = "TEXT")]
    find: Vec<String>,
    /// How long to look
    #[arg(long, default_value = "5s", value_parser = corten_core::Duration::parse_argument)]
    duration: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Debug, Default, Serialize)]
struct Seen {
    /// TCP segments with payload.
    segments: u64,
    /// Bytes of payload by server port.
    bytes: BTreeMap<u16, u64>,
    /// In how many segments each text was.
    found: BTreeMap<String, u64>,
}

impl Seen {
    fn look(&mut self, frame: &[u8]) {
        let Some(segment) = frame::segment(frame).filter(|segment| !segment.payload.is_empty()) else {
            return;
        };
        self.segments += 1;
        *self.bytes.entry(segment.server_port()).or_default() += segment.payload.len() as u64;
        for (text, count) in &mut self.found {
            let bytes = text.as_bytes();
            *count += u64::from(segment.payload.windows(bytes.len()).any(|window| window == bytes));
        }
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten-capture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let protocol = Protocol::from_raw(u32::from(ETH_P_ALL).try_into().context("the number is not zero")?);
    let packets = socket(AddressFamily::PACKET, SocketType::RAW, Some(protocol))
        .context("opening a packet socket, which needs the capability NET_RAW")?;
    let texts = arguments.find.iter().filter(|text| !text.is_empty());
    let mut seen = Seen {
        found: texts.map(|text| (text.clone(), 0)).collect(),
        ..Seen::default()
    };
    let end = Instant::now() + arguments.duration;
    let mut buffer = vec![0; FRAME_MAX];
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let wait = Timespec::try_from(left).context("the duration is too long")?;
        let mut ready = [PollFd::new(&packets, PollFlags::IN)];
        if poll(&mut ready, Some(&wait)).context("waiting for packets")? > 0 {
            let (length, _) = recv(&packets, buffer.as_mut_slice(), RecvFlags::empty()).context("reading a packet")?;
            seen.look(&buffer[..length]);
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&seen)?);
        return Ok(());
    }
    println!("{} TCP segments with payload", seen.segments);
    for (port, bytes) in &seen.bytes {
        println!("  port {port:<6} {bytes} bytes");
    }
    for (text, count) in &seen.found {
        println!("  {text:?} was in {count} of them");
    }
    Ok(())
}
