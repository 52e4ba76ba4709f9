//! Answers of any status, with any `Retry-After` and body, as each provider reads them: tasks, lists, and the classes of errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taskwatch::checks;

fuzz_target!(|input: (u16, &str, &[u8])| {
    let (status, retry_after, body) = input;
    let status = if status % 3 == 0 { status } else { 100 };
    checks::decode_all(status, retry_after.as_bytes(), body);
});
