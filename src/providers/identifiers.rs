//! Which identifiers an upstream has. The schema of the API lets pass what any upstream may have; each provider states here what its
//! own has, as data, and for anything else nothing is sent.

/// Which identifiers an upstream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifiers<'r> {
    /// Of tasks.
    pub task: IdentifierRule<'r>,
    /// Of the containers of tasks: accounts, projects, service instances.
    pub scope: IdentifierRule<'r>,
}

/// The rule for identifiers of one kind: ASCII letters and digits, and a few signs that do not come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentifierRule<'r> {
    /// What may stand in one beside letters and digits. No `/`: each becomes one segment of a URL's path.
    pub signs: &'r str,
    /// How long one may be, in characters; at most [`crate::api::bounds::IDENTIFIER`].
    pub longest: usize,
    /// One as the upstream writes it, to be shown to whoever gave something else.
    pub example: &'r str,
}

impl IdentifierRule<'_> {
    /// What in `text` breaks the rule, and how the rule is, in two sentences that begin with the name of the field; none where nothing
    /// does. `provider` is who has the rule.
    #[must_use]
    pub fn refusal(&self, text: &str, field: &str, provider: &str) -> Option<String> {
        let Self { signs, longest, example } = self;
        let fault = self.fault(text)?;
        let signs: Vec<_> = signs.chars().map(String::from).collect();
        Some(format!(
            "{field} {fault}. An identifier of {provider} begins with a letter or digit, has only letters, digits and {} in it, and at \
             most {longest} characters, as {example}",
            signs.join(" ")
        ))
    }

    fn fault(&self, text: &str) -> Option<String> {
        let is_plain = |c: &char| c.is_ascii_alphanumeric();
        match text.chars().next() {
            None => return Some("is empty".to_owned()),
            Some(first) if !is_plain(&first) => return Some(format!("begins with {}", shown(first))),
            Some(_) => {}
        }
        if let Some(odd) = text.chars().find(|c| !is_plain(c) && !self.signs.contains(*c)) {
            return Some(format!("has {} in it", shown(odd)));
        }
        (text.chars().nth(self.longest).is_some()).then(|| format!("has more than {} characters", self.longest))
    }
}

/// A character between quotes; one that cannot be seen, by its number.
fn shown(c: char) -> String {
    if c.is_ascii_graphic() || c.is_alphanumeric() { format!("\"{c}\"") } else { format!("U+{:04X}", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::IdentifierRule;

    #[test]
    fn a_refusal_names_the_field_what_is_not_allowed_and_what_is() {
        let rule = IdentifierRule { signs: "-.", longest: 5, example: "a-1.2" };
        let say = |text: &str| rule.refusal(text, "spec.task.id", "cloud");
        for good in ["a", "7", "a-1.2", "Z....", "9----"] {
            assert_eq!(say(good), None, "{good}");
        }
        for (bad, fault) in [
            ("", "is empty"),
            ("-a", "begins with \"-\""),
            ("..", "begins with \".\""),
            ("*", "begins with \"*\""),
            ("a/b", "has \"/\" in it"),
            ("aж", "has \"ж\" in it"),
            ("a\u{202e}", "has U+202E in it"),
            ("abcdef", "has more than 5 characters"),
        ] {
            let rule = "An identifier of cloud begins with a letter or digit, has only letters, digits and - . in it, and at most 5 \
                characters, as a-1.2";
            assert_eq!(say(bad), Some(format!("spec.task.id {fault}. {rule}")));
        }
    }
}
