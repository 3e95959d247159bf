//! Tokens as the command line gives them.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A token of what was given: itself, or its claims put into one, from a file if it says so.
pub(in crate::commands) fn token(given: &str) -> Result<String> {
    let read = given
        .strip_prefix('@')
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("reading the token in {path}")));
    let text = read.transpose()?.unwrap_or_else(|| given.to_owned());
    let text = text.trim();
    if text.starts_with('{') {
        let claims: Value = serde_json::from_str(text).context("the token's claims")?;
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        return Ok(format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims)));
    }
    ensure!(
        text.split('.').count() == 3,
        "a token has three parts with dots between them, or is its claims as JSON"
    );
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_a_token_and_tokens_stay() {
        let made = token(r#" {"iss":"me"} "#).unwrap();
        let parts: Vec<&str> = made.split('.').collect();
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[1]).unwrap(), br#"{"iss":"me"}"#);
        assert_eq!(token("a.b.c").unwrap(), "a.b.c");
        assert!(token("a.b").is_err());
        assert!(token("{").is_err());
    }
}
