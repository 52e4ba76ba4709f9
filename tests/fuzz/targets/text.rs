//! Times, `Retry-After`, JSON documents and `google.protobuf.Any`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taskwatch::{api, domain, providers};

#[path = "../../../src/providers/tests/checks.rs"]
#[allow(dead_code, missing_docs)]
mod checks;

fuzz_target!(|input: &str| checks::text(input));
