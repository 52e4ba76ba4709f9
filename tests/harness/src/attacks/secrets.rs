//! Secrets that are used, and the search for them in everything that the operator shows.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A run of a secret, or of a form of it, that may be seen nowhere. Shorter ones happen by chance.
const RUN: usize = 12;
/// The first bytes of a run, by which most of a text is passed over.
const PREFIX: usize = 3;

/// Secrets in all forms in which they may come back.
pub(super) struct Secrets {
    runs: HashMap<[u8; RUN], String>,
    prefixes: Vec<bool>,
}

impl Secrets {
    /// Of named secrets.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut all = Self { runs: HashMap::new(), prefixes: vec![false; 1 << (8 * PREFIX)] };
        for (name, secret) in secrets {
            for (form, text) in forms(secret) {
                for run in text.as_bytes().windows(RUN).filter_map(|run| <[u8; RUN]>::try_from(run).ok()) {
                    all.prefixes[index(&run)] = true;
                    all.runs.entry(run).or_insert_with(|| format!("{name} ({form})"));
                }
            }
        }
        all
    }

    /// Which secrets, and in which form, a text holds a run of; with what stands around the first of each.
    pub(super) fn found_in(&self, text: &str) -> Vec<String> {
        let bytes = text.as_bytes();
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for at in 0..bytes.len().saturating_sub(RUN - 1) {
            if !self.prefixes[index(&bytes[at..])] {
                continue;
            }
            let Some(name) = self.runs.get(&bytes[at..at + RUN]) else { continue };
            if seen.insert(name) {
                let around = &bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())];
                found.push(format!("{name}: …{}…", String::from_utf8_lossy(around).replace('\n', " ")));
            }
        }
        found
    }
}

fn index(bytes: &[u8]) -> usize {
    bytes.iter().take(PREFIX).fold(0, |all, &byte| all << 8 | usize::from(byte))
}

/// A secret as it is, and as encodings have it.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![("as it is", secret.to_owned())];
    for shift in 0..3 {
        // Base64 has another form for each place that the secret can have among the three bytes of a group. What the bytes around it
        // decide is left out.
        let shifted = [&vec![0; shift], secret.as_bytes()].concat();
        for (name, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
            let text = engine.encode(&shifted);
            let inner = text.get(if shift == 0 { 0 } else { 4 }..text.len() - 2).unwrap_or_default();
            forms.push((name, inner.to_owned()));
        }
    }
    for (name, upper) in [("percent-encoded", true), ("percent-encoded, lower case", false)] {
        let text = secret.bytes().fold(String::new(), |mut text, byte| {
            let _ = match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    write!(text, "{}", char::from(byte))
                }
                _ if upper => write!(text, "%{byte:02X}"),
                _ => write!(text, "%{byte:02x}"),
            };
            text
        });
        forms.push((name, text));
    }
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_matches('"');
    forms.push(("JSON", json.to_owned()));
    forms.push(("JSON of Go", json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")));
    forms.push(("Debug", format!("{secret:?}").trim_matches('"').to_owned()));
    forms.push(("hexadecimal", secret.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))));
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p4\"ss<w\\örd>&+/%2F-Zyxwvut";

    #[test]
    fn every_form_is_found_and_a_part_of_it_too() {
        let secrets = Secrets::new([("the password", SECRET)]);
        let go = serde_json::to_string(SECRET).unwrap().replace('<', "\\u003c").replace('>', "\\u003e");
        let encode = |prefix: &str| STANDARD_NO_PAD.encode(format!("{prefix}{SECRET}"));
        for text in [
            format!("before {SECRET} behind"),
            SECRET[8..].to_owned(),
            SECRET[..14].to_owned(),
            encode(""),
            encode("u:"),
            encode("a"),
            go,
            serde_json::to_string(&serde_json::to_string(SECRET).unwrap()).unwrap(),
        ] {
            assert!(!secrets.found_in(&text).is_empty(), "{text}");
        }
        assert_eq!(secrets.found_in("p4 ss w rd Zyxwvut and much more that is no secret").len(), 0);
    }
}
