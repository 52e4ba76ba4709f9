//! Answers of any status, with any `Retry-After` and body: tasks, lists, and the classes of errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taskwatch::{api, domain, providers};

#[path = "../../../src/providers/tests/checks.rs"]
#[allow(dead_code, missing_docs)]
mod checks;

fuzz_target!(|input: (u16, &str, &[u8])| {
    let (status, retry_after, body) = input;
    if let Some(provider) = providers::registry::by_name("astraControl") {
        checks::decode(provider.as_ref(), if status % 3 == 0 { status } else { 100 }, retry_after.as_bytes(), body);
    }
});
