//! Answers of any status, with any `Retry-After` and body, as each provider reads them: tasks, lists, and the classes of errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taskwatch::{api, domain, providers};

#[path = "../../../src/providers/tests/checks.rs"]
#[allow(dead_code, missing_docs)]
mod checks;

fuzz_target!(|input: (u16, &str, &[u8])| {
    let (status, retry_after, body) = input;
    let status = if status % 3 == 0 { status } else { 100 };
    for entry in providers::registry::PROVIDERS {
        checks::decode(entry.plain().as_ref(), status, retry_after.as_bytes(), body);
    }
});
