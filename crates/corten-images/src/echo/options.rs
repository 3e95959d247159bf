//! What a request may ask of its answer, in the query string.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use rand::RngExt;

/// The longest answer and the longest delay that can be asked for.
const SIZE_MAX: usize = 64 << 20;
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Status codes with their weights.
pub(crate) type Codes = Vec<(StatusCode, u32)>;

/// A request's wishes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Status codes with their weights; 200 when empty.
    pub(crate) codes: Codes,
    /// How long to wait before the answer.
    pub(crate) delay: Duration,
    /// Headers of the answer.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Answer with this many bytes instead of what was seen.
    pub(crate) size: Option<usize>,
    /// Answer with this text instead of what was seen.
    pub(crate) body: Option<String>,
    /// `text` or `json`; by the request's `accept` header when absent.
    pub(crate) json: Option<bool>,
    /// Where to call and report, and how often.
    pub(crate) forward: Option<(String, u32)>,
    /// The name under which the request is counted.
    pub(crate) tally: Option<String>,
    /// How many requests of the tally get `codes`; those after them get 200.
    pub(crate) first: Option<u64>,
    /// End the connection instead of answering.
    pub(crate) hang_up: bool,
    /// The status of gRPC to answer calls with, and nothing else.
    pub(crate) grpc: Option<u32>,
}

impl Options {
    /// Reads a query string, where it does not say which with the usual codes: `codes=500:20,200:80`, `delay=100ms`, `header=name:value`, `size=1024`, `body=text`, `format=json`, `url=...`, `count=3`,
    /// `tally=name`, `first=2`, `hangup`, `grpc=14`.
    ///
    /// Other parameters are nobody's business but the caller's.
    pub(crate) fn parse(query: &str, usual: &Codes) -> Result<Self, String> {
        let mut options = Self {
            codes: usual.clone(),
            ..Self::default()
        };
        let (mut url, mut count) = (None, 1);
        for (key, value) in pairs(query) {
            match key.as_str() {
                "codes" => options.codes = codes(&value)?,
                "delay" => {
                    let delay = corten_core::Duration::parse_argument(&value);
                    options.delay = delay.map_err(|error| format!("delay {error}"))?.min(DELAY_MAX);
                }
                "header" => options.headers.push(header(&value)?),
                "size" => {
                    let size: usize = value
                        .parse()
                        .map_err(|_| format!("size {value:?} is no number of bytes"))?;
                    options.size = Some(size.min(SIZE_MAX));
                }
                "body" => options.body = Some(value),
                "format" if value == "json" || value == "text" => options.json = Some(value == "json"),
                "format" => return Err(format!("format {value:?} is neither json nor text")),
                "url" => url = Some(value),
                "tally" => options.tally = Some(value),
                "first" => {
                    let first = value.parse().map_err(|_| format!("first {value:?} is no number"))?;
                    options.first = Some(first);
                }
                "hangup" => options.hang_up = true,
                "grpc" => {
                    let status = value.parse().ok().filter(|status| *status <= 16);
                    options.grpc =
                        Some(status.ok_or_else(|| format!("grpc {value:?} is no status of gRPC (0 to 16)"))?);
                }
                "count" => count = value.parse().map_err(|_| format!("count {value:?} is no number"))?,
                _ => {}
            }
        }
        options.forward = url.map(|url| (url, count.min(10_000)));
        if options.first.is_some() && options.tally.is_none() {
            return Err("first needs tally=NAME, by which requests are counted".to_owned());
        }
        Ok(options)
    }

    /// The wishes as they are for the request with this number in its tally: those after the first few fare well.
    pub(crate) fn of_number(mut self, number: u64) -> Self {
        if self.first.is_some_and(|first| number > first) {
            self.codes.clear();
            self.hang_up = false;
            self.grpc = None;
            self.delay = Duration::ZERO;
        }
        self
    }

    /// The status of one answer, drawn by weight.
    pub(crate) fn status(&self) -> StatusCode {
        let total: u32 = self.codes.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return StatusCode::OK;
        }
        let mut draw = rand::rng().random_range(0..total);
        for (code, weight) in &self.codes {
            if draw < *weight {
                return *code;
            }
            draw -= weight;
        }
        StatusCode::OK
    }
}

/// Reads `CODE[:WEIGHT],...`.
pub(crate) fn codes(value: &str) -> Result<Codes, String> {
    let code = |item: &str| {
        let (code, weight) = item.split_once(':').unwrap_or((item, "1"));
        let status = code
            .trim()
            .parse::<u16>()
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok());
        let weight = weight.trim().parse::<u16>().ok().map(u32::from);
        match (status, weight) {
            (Some(status), Some(weight)) if status.as_u16() >= 200 => Ok((status, weight)),
            _ => Err(format!(
                "{item:?} is no status code with a weight; write for example 500:20,200:80"
            )),
        }
    };
    value.split(',').map(code).collect()
}

fn header(value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let fail = || format!("{value:?} is no header; write name:value");
    let (name, value) = value.split_once(':').ok_or_else(fail)?;
    Ok((
        name.trim().parse().map_err(|_| fail())?,
        value.trim().parse().map_err(|_| fail())?,
    ))
}

/// The pairs of a query string, decoded.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// Percent and plus decoding; what is not well encoded stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Options, String> {
        Options::parse(query, &Codes::new())
    }

    #[test]
    fn wishes_are_read() {
        let options = parse("codes=503:1,200:3&delay=50ms&header=x-a%3Ab&size=9&format=json&other=1").expect("good");
        assert_eq!(parse("body=a%20b").expect("good").body.as_deref(), Some("a b"));
        assert_eq!(
            options.codes,
            [(StatusCode::SERVICE_UNAVAILABLE, 1), (StatusCode::OK, 3)]
        );
        assert_eq!(options.delay, Duration::from_millis(50));
        assert_eq!(
            options.headers,
            [(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]
        );
        assert_eq!((options.size, options.json), (Some(9), Some(true)));
        let forward = parse("url=http%3A%2F%2Fa%3A80%2Fb%3Fc&count=2").expect("good").forward;
        assert_eq!(forward, Some(("http://a:80/b?c".to_owned(), 2)));
    }

    #[test]
    fn wishes_that_make_no_sense_are_refused() {
        for bad in [
            "codes=x",
            "codes=100",
            "delay=1y",
            "header=a",
            "size=-1",
            "format=xml",
            "count=x",
            "tally=a&first=x",
            "first=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_is_drawn_from_those_with_weight() {
        assert_eq!(Options::default().status(), StatusCode::OK);
        let options = parse("codes=404:0,500:7").expect("good");
        assert!((0..50).all(|_| options.status() == StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn a_server_may_fail_unless_it_is_asked_not_to() {
        let failing = codes("503").expect("a code");
        let status = |query: &str| Options::parse(query, &failing).expect("good").status();
        assert_eq!(
            (status(""), status("codes=200")),
            (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK)
        );
    }

    #[test]
    fn only_the_first_of_a_tally_fare_badly() {
        let options = parse("tally=a&first=2&codes=503&delay=1s&hangup").expect("good");
        assert_eq!(options.clone().of_number(2), options);
        let third = options.of_number(3);
        assert_eq!(
            (third.status(), third.hang_up, third.delay),
            (StatusCode::OK, false, Duration::ZERO)
        );
        let always = parse("tally=a&codes=503").expect("good").of_number(1000);
        assert_eq!(always.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn bad_escapes_stay() {
        assert_eq!(decode("a%2Fb+c%zz%"), "a/b c%zz%");
    }
}
