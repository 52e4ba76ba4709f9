//! Foreign text made fit to be shown: in statuses, events, logs and terminals.

// As long as the schema lets it be.
pub use crate::api::bounds::{MESSAGE, VALUE, WORD};

/// `text` without what could harm a reader's terminal or eye, in at most `max` bytes (an ellipsis marks a cut).
///
/// ANSI escape sequences and control characters go, line breaks and tabs become blanks, and so do runs of white space; the marks
/// that turn the writing direction (Unicode `Bidi_Control`) and other invisible formatting characters go, too.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    // Identifiers, which most texts are, have nothing to take out.
    if text.len() <= max && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len().min(max));
    let mut chars = text.chars().peekable();
    let mut blank = false;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            c if c.is_whitespace() => blank = !out.is_empty(),
            c if c.is_control() || is_invisible(c) => {}
            c => {
                let room = usize::from(blank) + c.len_utf8();
                if out.len() + room > max {
                    return cut(out, max);
                }
                if std::mem::take(&mut blank) {
                    out.push(' ');
                }
                out.push(c);
            }
        }
    }
    out
}

/// `text` cleaned; none where nothing is left of it.
#[must_use]
pub fn clean_option(text: &str, max: usize) -> Option<String> {
    Some(clean(text, max)).filter(|text| !text.is_empty())
}

/// Skips the rest of an escape sequence: CSI up to its final byte, OSC and its like up to their terminator, else one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while let Some(&c) = chars.peek() {
                if !(' '..='?').contains(&c) {
                    if ('@'..='~').contains(&c) {
                        chars.next();
                    }
                    break;
                }
                chars.next();
            }
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(_) => {
            chars.next();
        }
        None => {}
    }
}

/// Characters that show nothing themselves but change what is seen around them, or look like a blank that is none: Unicode's
/// `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`; the marks that turn the direction are among them), the marks of
/// interlinear annotations, and the blank pattern of Braille. In order; each range with its ends.
const INVISIBLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

fn is_invisible(c: char) -> bool {
    let after = INVISIBLE.partition_point(|(first, _)| *first <= c);
    after.checked_sub(1).and_then(|at| INVISIBLE.get(at)).is_some_and(|(_, last)| c <= *last)
}

/// Ends `text` with an ellipsis within `max` bytes.
fn cut(mut text: String, max: usize) -> String {
    const ELLIPSIS: &str = "…";
    let mut end = max.saturating_sub(ELLIPSIS.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.truncate(text.trim_end().len());
    if max >= ELLIPSIS.len() {
        text.push_str(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{INVISIBLE, clean};

    #[test]
    fn takes_out_what_harms_and_keeps_what_is_said() {
        for (text, expected) in [
            ("quota exceeded", "quota exceeded"),
            ("two\nlines\tand\r\n more ", "two lines and more"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("abc\u{202e}def\u{200f}", "abcdef"),
            ("nul\0 bell\u{7}", "nul bell"),
            ("задача не найдена", "задача не найдена"),
            ("\u{1b}[", ""),
            ("\u{1b}", ""),
        ] {
            assert_eq!(clean(text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_invisible_is_left() {
        assert!(INVISIBLE.windows(2).all(|pair| pair[0].1 < pair[1].0), "in order, and apart");
        for (first, last) in INVISIBLE {
            for c in *first..=*last {
                assert_eq!(clean(&format!("a{c}b"), 100), "ab", "U+{:04X}", u32::from(c));
            }
            let beside = [u32::from(*first) - 1, u32::from(*last) + 1].map(|code| char::from_u32(code).unwrap_or('x'));
            for c in beside.into_iter().filter(|c| !c.is_control() && !c.is_whitespace()) {
                assert_eq!(clean(&format!("a{c}b"), 100), format!("a{c}b"), "U+{:04X}", u32::from(c));
            }
        }
        // One of each block that a review found to pass.
        for c in "\u{3164}\u{34f}\u{fe00}\u{fe0f}\u{e0100}\u{2800}\u{115f}\u{17b4}\u{1d173}\u{ffa0}\u{180d}".chars() {
            assert_eq!(clean(&format!("{c}a{c}"), 100), "a", "U+{:04X}", u32::from(c));
        }
        // What is seen stays: accents, emoji, scripts with marks of their own.
        for text in ["e\u{301}", "\u{1f4be}", "हिन्दी", "ไทย", "Ω≈ç"] {
            assert_eq!(clean(text, 100), text);
        }
    }

    #[test]
    fn is_bounded_in_bytes_at_a_character() {
        let long = "ж".repeat(1000);
        for max in 0..20 {
            assert!(clean(&long, max).len() <= max);
        }
        assert_eq!(clean("abcdef", 6), "abcdef");
        assert_eq!(clean("abcdefg", 6), "abc…");
        assert_eq!(clean("abc      ", 3), "abc");
    }
}
