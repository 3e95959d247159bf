//! The hash that names the revisions of a pod template.
//!
//! It need not equal Kubernetes' own, only be stable and look alike: names are compared by users, hashes by nobody.

use serde_json::Value;

/// No vowels, and nothing that reads like a vowel, so that no hash spells a word.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A hash of a value, in Kubernetes' alphabet for generated names; `salt` tells collisions apart.
pub(crate) fn template(value: &Value, salt: Option<i64>) -> String {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.value(value);
    if let Some(salt) = salt {
        hash.bytes(&salt.to_le_bytes());
    }
    let folded = (hash.0 >> 32) ^ (hash.0 & 0xffff_ffff);
    folded
        .to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

/// FNV-1a over a canonical walk: object members in the order of their names, so that field order does not matter.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut members: Vec<_> = map.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                self.bytes(b"{");
                for (name, member) in members {
                    self.bytes(name.as_bytes());
                    self.bytes(b":");
                    self.value(member);
                }
                self.bytes(b"}");
            }
            Value::Array(items) => {
                self.bytes(b"[");
                for item in items {
                    self.value(item);
                    self.bytes(b",");
                }
                self.bytes(b"]");
            }
            scalar => self.bytes(scalar.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hash_is_stable_and_ignores_member_order() {
        let a: Value = serde_json::from_str(r#"{"x": 1, "y": [true, "z"]}"#).expect("JSON");
        let b: Value = serde_json::from_str(r#"{"y": [true, "z"], "x": 1}"#).expect("JSON");
        assert_eq!(template(&a, None), template(&b, None));
        assert_ne!(template(&a, None), template(&a, Some(1)));
        assert_ne!(template(&a, None), template(&json!({"x": 1}), None));
        assert!(template(&a, None).bytes().all(|c| ALPHABET.contains(&c)));
        assert!(template(&a, None).len() <= 10);
    }
}
