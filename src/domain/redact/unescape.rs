//! Takes escapes out of a text, and keeps track of where each byte came from.
//!
//! One pass reads all kinds: JSON's (and those of other languages that look alike), percent-encoding, and HTML's character references. What
//! was escaped twice, or in two ways, needs another pass.

use std::ops::Range;

use memchr::{memchr3, memchr3_iter};

/// A part of a text without its escapes.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    /// Where in the text each byte begins, and where the part ends.
    from: Vec<u32>,
}

/// No escape is longer than this: two `\uXXXX`.
pub(super) const LONGEST: usize = 12;

impl Plain {
    /// The part at `range` of a text after one pass; none where it has no escapes.
    pub(super) fn of(text: &[u8], range: Range<usize>) -> Option<Self> {
        let start = range.start;
        pass(text.get(range)?, |at| position(start + at))
    }

    /// After another pass; none where there is nothing left to do.
    pub(super) fn again(&self) -> Option<Self> {
        pass(&self.bytes, |at| self.from.get(at).copied().unwrap_or_default())
    }

    /// Where in the text these bytes are: whole escapes.
    pub(super) fn range(&self, of: Range<usize>) -> Range<usize> {
        let at = |index: usize| self.from.get(index).copied().unwrap_or_default();
        let last = at(of.end.saturating_sub(1));
        // Several bytes may come from one escape.
        let end = self.from.get(of.end..).unwrap_or_default().iter().find(|from| **from > last);
        place(at(of.start))..place(end.copied().unwrap_or(last))
    }
}

/// The parts of a text that have escapes, each with `margin` bytes before and after.
pub(super) fn escaped(text: &[u8], margin: usize) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for at in memchr3_iter(b'\\', b'%', b'&', text) {
        let part = at.saturating_sub(margin)..(at + margin).min(text.len());
        match parts.last_mut() {
            Some(last) if part.start <= last.end => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts
}

/// `value` without escapes after each pass that changes anything.
pub(super) fn readings(value: &[u8]) -> Vec<Vec<u8>> {
    let first = Plain::of(value, 0..value.len());
    let readings = std::iter::successors(first, Plain::again);
    readings.take(PASSES).map(|plain| plain.bytes).collect()
}

/// So many layers of escapes are taken off.
pub(super) const PASSES: usize = 6;

fn pass(bytes: &[u8], from: impl Fn(usize) -> u32) -> Option<Plain> {
    memchr3(b'\\', b'%', b'&', bytes)?;
    let mut plain = Plain { bytes: Vec::with_capacity(bytes.len()), from: Vec::with_capacity(bytes.len() + 1) };
    let (mut at, mut changed) = (0, false);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let run = memchr3(b'\\', b'%', b'&', rest).unwrap_or(rest.len());
        plain.bytes.extend_from_slice(rest.get(..run).unwrap_or_default());
        plain.from.extend((at..at + run).map(&from));
        at += run;
        let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
        let (put, taken) = escape(rest, &mut plain.bytes).map_or_else(
            || {
                plain.bytes.extend(rest.first());
                (1, 1)
            },
            |escape| {
                changed = true;
                escape
            },
        );
        plain.from.extend(std::iter::repeat_n(from(at), put));
        at += taken;
    }
    // The end of the last byte: where what follows it would begin.
    plain.from.push(from(bytes.len()));
    changed.then_some(plain)
}

/// Puts what the escape at the beginning of `text` stands for into `out`. Returns how many bytes that is, and how many the escape has.
fn escape(text: &[u8], out: &mut Vec<u8>) -> Option<(usize, usize)> {
    let before = out.len();
    let taken = match *text {
        [b'\\', b'u', ..] => {
            let unit = |at: usize| hex(text.get(at..at + 4)?);
            let (high, low) = (unit(2)?, text.get(6..8).filter(|next| *next == br"\u").and_then(|_| unit(8)));
            let (code, taken) = match (high, low) {
                (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                    (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12)
                }
                _ => (high, 6),
            };
            put(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), out);
            taken
        }
        [b'%', a, b, ..] => {
            out.push(u8::try_from(hex(&[a, b])?).ok()?);
            3
        }
        [b'\\', b'x', a, b, ..] => {
            out.push(u8::try_from(hex(&[a, b])?).ok()?);
            4
        }
        [b'\\', b, ..] => {
            out.push(match b {
                b'"' | b'\\' | b'/' | b'\'' => b,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                _ => return None,
            });
            2
        }
        [b'&', ..] => {
            let end = text.iter().take(LONGEST).position(|byte| *byte == b';')?;
            let code = match text.get(1..end)? {
                [b'#', b'x' | b'X', digits @ ..] => hex(digits)?,
                [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
                name => u32::from(NAMED.iter().find(|(known, _)| known.as_bytes() == name)?.1),
            };
            put(char::from_u32(code)?, out);
            end + 1
        }
        _ => return None,
    };
    Some((out.len() - before, taken))
}

/// The characters that must be escaped in HTML.
const NAMED: [(&str, u8); 5] = [("amp", b'&'), ("lt", b'<'), ("gt", b'>'), ("quot", b'"'), ("apos", b'\'')];

fn put(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The number of these hexadecimal digits: at least one, at most six.
fn hex(digits: &[u8]) -> Option<u32> {
    let fits = (1..=6).contains(&digits.len());
    let mut digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
    fits.then(|| digits.try_fold(0, |sum, digit| Some(sum * 16 + digit?)))?
}

// No body is nearly as long as 4 GiB.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn place(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
