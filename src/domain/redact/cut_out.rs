//! Puts the mark into the places of secrets. What was JSON is so afterwards, too: a string stays a string, a number becomes one.

use std::ops::Range;

use memchr::memchr2;

use super::MARK;

/// `text` with the mark in the place of each of these ranges, which may overlap and touch.
pub(super) fn cut_out(text: &[u8], mut ranges: Vec<Range<usize>>) -> Vec<u8> {
    ranges.sort_by_key(|range| range.start);
    let mut out = Vec::with_capacity(text.len());
    let mut json = Json::of(text);
    let mut done = 0;
    let mut ranges = ranges.into_iter().peekable();
    while let Some(Range { mut start, mut end }) = ranges.next() {
        while let Some(next) = ranges.next_if(|next| next.start <= end) {
            end = end.max(next.end);
        }
        // Half a character is none.
        end +=
            text.get(end..).unwrap_or_default().iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
        let place = json.as_mut().map_or(Place::String, |json| json.go_to(text, start));
        let mut quote = "";
        match place {
            Place::String => {}
            Place::Escape(begins) => start = begins,
            Place::Between => {
                let is_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
                if text.get(start..end).is_some_and(|secret| secret.iter().all(is_number)) {
                    start -=
                        text.get(..start).unwrap_or_default().iter().rev().take_while(|byte| is_number(byte)).count();
                    end += text.get(end..).unwrap_or_default().iter().take_while(|byte| is_number(byte)).count();
                    quote = "\"";
                }
            }
        }
        out.extend_from_slice(text.get(done..start).unwrap_or_default());
        for part in [quote, MARK, quote] {
            out.extend_from_slice(part.as_bytes());
        }
        done = end.max(done);
        if let Some(json) = &mut json {
            json.at = json.at.max(done);
        }
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default());
    out
}

/// How far a text that may be JSON was read.
struct Json {
    at: usize,
    in_string: bool,
}

/// Where a byte stands.
enum Place {
    String,
    /// Within an escape that begins there.
    Escape(usize),
    /// Outside of strings.
    Between,
}

impl Json {
    /// None where the text cannot be JSON.
    fn of(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let first = text.trim_ascii_start().first();
        matches!(first, Some(b'{' | b'[')).then_some(Self { at: 0, in_string: false })
    }

    fn go_to(&mut self, text: &[u8], place: usize) -> Place {
        while self.at < place {
            let rest = text.get(self.at..place).unwrap_or_default();
            let Some(run) = memchr2(b'"', b'\\', rest) else {
                self.at = place;
                break;
            };
            let begins = self.at + run;
            let is_quote = text.get(begins) == Some(&b'"');
            if is_quote {
                self.in_string = !self.in_string;
            }
            let is_long = text.get(begins + 1) == Some(&b'u');
            self.at = begins
                + if is_quote || !self.in_string {
                    1
                } else if is_long {
                    6
                } else {
                    2
                };
            if self.at > place {
                return Place::Escape(begins);
            }
        }
        if self.in_string { Place::String } else { Place::Between }
    }
}
