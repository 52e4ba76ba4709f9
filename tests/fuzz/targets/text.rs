//! Times, `Retry-After`, JSON documents and `google.protobuf.Any`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taskwatch::checks;

fuzz_target!(|input: &str| checks::text(input));
