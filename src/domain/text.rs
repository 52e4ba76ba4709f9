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

/// Formatting characters that show nothing themselves but change what is seen around them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
    use super::clean;

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
