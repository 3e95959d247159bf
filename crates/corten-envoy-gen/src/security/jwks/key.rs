//! Which keys a proxy takes. One that it does not would make it refuse all of its configuration, so that a lie of one issuer
//! were everybody's: keys are looked at here as closely as there.

use std::cmp::Ordering;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value, json};

/// Keys that can be used, and what is wrong with those that cannot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usable {
    /// The keys that can be used, as a set (JWKS), without anything else; `None`: there are none.
    pub keys: Option<String>,
    /// Why others cannot.
    pub problems: Vec<String>,
}

/// The members of keys that are public, or, of secrets that are shared, needed.
const MEMBERS: [&str; 10] = ["kty", "kid", "use", "alg", "n", "e", "crv", "x", "y", "k"];

/// The bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 512..=8192;

/// The keys of a text, a set or a single one, that a proxy can use.
pub fn usable(text: &str) -> Usable {
    let problem = |problem: String| Usable {
        keys: None,
        problems: vec![problem],
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return problem(format!("not JSON: {error}")),
    };
    let keys = match (value.get("keys"), value.get("kty")) {
        (Some(Value::Array(keys)), _) => keys.as_slice(),
        (None, Some(_)) => std::slice::from_ref(&value),
        _ => return problem("not a set of keys: it has no list keys".to_owned()),
    };
    let mut usable = Usable::default();
    let mut kept = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        match check(key) {
            Ok(members) => kept.push(Value::Object(members)),
            Err(wrong) => usable.problems.push(format!("key {i}: {wrong}")),
        }
    }
    if keys.is_empty() {
        usable.problems.push("a set without keys".to_owned());
    }
    usable.keys = (!kept.is_empty()).then(|| json!({ "keys": kept }).to_string());
    usable
}

/// The members of a key that count.
fn check(key: &Value) -> Result<Map<String, Value>, String> {
    let members = key.as_object().ok_or("a key is a JSON object")?;
    let mut kept = Map::new();
    for name in MEMBERS {
        match members.get(name) {
            None => {}
            Some(Value::String(text)) => drop(kept.insert(name.to_owned(), Value::from(text.as_str()))),
            Some(_) => return Err(format!("the member {name} must be a text")),
        }
    }
    let text = |name: &str| kept.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let text = text(name).ok_or_else(|| format!("it has no member {name}"))?;
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&URL_SAFE, config).decode(text);
        decoded.map_err(|_| format!("the member {name} is not base64url"))
    };
    let algorithm = |families: &[&str]| match text("alg") {
        Some(name) if !families.iter().any(|family| name.starts_with(family)) => {
            Err(format!("the algorithm {name:?} is not one for such a key"))
        }
        _ => Ok(()),
    };
    match text("kty").unwrap_or_default() {
        "RSA" => {
            algorithm(&["RS", "PS"])?;
            rsa(&bytes("n")?, &bytes("e")?)?;
        }
        "EC" => {
            let name = text("crv").unwrap_or_default();
            let curve = CURVES.iter().find(|curve| curve.name == name);
            let curve = curve.ok_or_else(|| format!("the curve {name:?} is not one of P-256, P-384, P-521"))?;
            algorithm(&[curve.algorithm])?;
            curve.check(&bytes("x")?, &bytes("y")?)?;
        }
        "OKP" => {
            algorithm(&["EdDSA"])?;
            if text("crv") != Some("Ed25519") || bytes("x")?.len() != 32 {
                return Err("it is not an Ed25519 key of 32 bytes".to_owned());
            }
        }
        "oct" => {
            algorithm(&["HS"])?;
            if bytes("k")?.is_empty() {
                return Err("it is empty".to_owned());
            }
        }
        other => return Err(format!("the type {other:?} is not one of RSA, EC, OKP, oct")),
    }
    Ok(kept)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let (modulus, exponent) = (natural(modulus), natural(exponent));
    let is_odd = |number: &[u32]| number.first().is_some_and(|low| low & 1 == 1);
    if !RSA_BITS.contains(&bits(&modulus)) || !is_odd(&modulus) {
        return Err(format!("an RSA key of {} bits", bits(&modulus)));
    }
    if !is_odd(&exponent) || !(2..=33).contains(&bits(&exponent)) {
        return Err("the member e is not an exponent".to_owned());
    }
    Ok(())
}

/// A curve `y² = x³ - 3x + b` over a prime field.
struct Curve {
    name: &'static str,
    algorithm: &'static str,
    prime: &'static str,
    b: &'static str,
}

const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        algorithm: "ES256",
        prime: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        b: "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    },
    Curve {
        name: "P-384",
        algorithm: "ES384",
        prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        b: "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    },
    Curve {
        name: "P-521",
        algorithm: "ES512",
        prime: "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        b: "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
    },
];

impl Curve {
    /// Whether a point is on the curve.
    fn check(&self, x: &[u8], y: &[u8]) -> Result<(), String> {
        let (x, y, prime, b) = (natural(x), natural(y), of_hex(self.prime), of_hex(self.b));
        let in_field = |number: &[u32]| compare(number, &prime) == Ordering::Less;
        let times = |a: &[u32], b: &[u32]| remainder(&product(a, b), &prime);
        let on_curve = in_field(&x) && in_field(&y) && {
            let cube = times(&times(&x, &x), &x);
            // The difference without going below zero: p - 3x in place of -3x.
            let three = remainder(&product(&x, &[3]), &prime);
            let minus_three = difference(&prime, &three);
            let right = remainder(&sum(&sum(&cube, &minus_three), &b), &prime);
            compare(&times(&y, &y), &right) == Ordering::Equal
        };
        if on_curve {
            Ok(())
        } else {
            Err(format!("it is no point of {}", self.name))
        }
    }
}

// Numbers are their digits of 32 bits, the lowest first, without zeros at the end. They are few and small: the plainest
// arithmetic will do.

fn natural(bytes: &[u8]) -> Vec<u32> {
    let digits = bytes
        .rchunks(4)
        .map(|four| four.iter().fold(0, |digit, byte| (digit << 8) | u32::from(*byte)));
    trimmed(digits.collect())
}

fn of_hex(text: &str) -> Vec<u32> {
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let digits = pair.iter().filter_map(|char| char::from(*char).to_digit(16));
        digits.fold(0u32, |byte, digit| byte * 16 + digit)
    });
    natural(&bytes.filter_map(|byte| u8::try_from(byte).ok()).collect::<Vec<u8>>())
}

fn trimmed(mut digits: Vec<u32>) -> Vec<u32> {
    while digits.last() == Some(&0) {
        digits.pop();
    }
    digits
}

fn bits(number: &[u32]) -> usize {
    number.last().map_or(0, |top| {
        number.len() * 32 - usize::try_from(top.leading_zeros()).unwrap_or_default()
    })
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

/// The low digit, and what is carried.
fn split(wide: u64) -> (u32, u64) {
    (u32::try_from(wide & 0xffff_ffff).unwrap_or_default(), wide >> 32)
}

fn sum(a: &[u32], b: &[u32]) -> Vec<u32> {
    let digit = |of: &[u32], i: usize| u64::from(of.get(i).copied().unwrap_or_default());
    let mut carry = 0;
    let digits = (0..=a.len().max(b.len())).map(|i| {
        let (low, high) = split(digit(a, i) + digit(b, i) + carry);
        carry = high;
        low
    });
    trimmed(digits.collect())
}

/// `a - b`, of which `a` is not the smaller.
fn difference(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut borrow = false;
    let digits = a.iter().enumerate().map(|(i, digit)| {
        let (once, under) = digit.overflowing_sub(b.get(i).copied().unwrap_or_default());
        let (twice, again) = once.overflowing_sub(u32::from(borrow));
        borrow = under || again;
        twice
    });
    trimmed(digits.collect())
}

fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut digits = vec![0u32; a.len() + b.len() + 1];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, y) in b.iter().chain(std::iter::once(&0)).enumerate() {
            let (low, high) = split(u64::from(*x) * u64::from(*y) + u64::from(digits[i + j]) + carry);
            digits[i + j] = low;
            carry = high;
        }
    }
    trimmed(digits)
}

fn remainder(number: &[u32], modulus: &[u32]) -> Vec<u32> {
    let mut rest: Vec<u32> = Vec::new();
    for digit in number.iter().rev() {
        for bit in (0..32).rev() {
            rest = sum(&rest, &rest);
            rest = sum(&rest, &[(digit >> bit) & 1]);
            if compare(&rest, modulus) != Ordering::Less {
                rest = difference(&rest, modulus);
            }
        }
    }
    rest
}
