//! What an object is where it is kept: as the API server writes it.

use std::io::{self, Write};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

/// `time` as it survives in an object: in whole seconds.
#[must_use]
pub fn time(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// The bytes of `value` as JSON in the form that the API server stores: Go's `encoding/json` writes `<`, `>`, `&`, U+2028 and U+2029 as
/// six bytes each. What cannot be written at all is taken for larger than anything.
#[must_use]
pub fn size(value: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let escaped = bytes.iter().filter(|byte| matches!(byte, b'<' | b'>' | b'&')).count();
        // Three bytes each in UTF-8; the writer never parts a character.
        let separators = bytes.windows(3).filter(|part| matches!(part, [0xe2, 0x80, 0xa8 | 0xa9])).count();
        self.0 += bytes.len() + escaped * 5 + separators * 3;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn counts_as_go_writes() {
        // The lengths are those of Go 1.24's json.Marshal.
        for (text, expected) in [
            ("", 2),
            ("abc", 5),
            ("<>&", 20),
            ("a<b", 10),
            ("\u{2028}\u{2029}", 14),
            ("\u{2027}\u{202a}", 8),
            ("ж💾", 8),
            ("\"\\", 6),
            ("\n\t\u{1}", 12),
            ("'", 3),
        ] {
            assert_eq!(size(&text), expected, "{text:?}");
        }
        assert_eq!(size(&serde_json::json!({"a<": ["&"]})), 1 + 9 + 1 + 2 + 8 + 1);
    }
}
