//! What the errors of one upstream look like, and what its codes mean: the data of a dialect.

use super::envelope::{Envelope, Form};
use crate::domain::failure::FailureClass;

/// One envelope with a kind of code in it that is the API's own. Whatever else answers with an error status is a gateway, a proxy or
/// another server on the way, and what it says is not taken for the API's word on a task, a scope or a right.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The envelope.
    pub form: Form,
    /// Whether a code is one of the API's.
    pub code: fn(&str) -> bool,
    /// Whether 404 and 410 under such a code mean that the task is unknown where no [`Rule`] says so.
    pub names_tasks: bool,
}

impl Own {
    /// The first of `forms` that `error` has; none where it is not in the API's words.
    #[must_use]
    pub fn of<'o>(forms: &'o [Own], error: Option<&Envelope>) -> Option<&'o Own> {
        let error = error?;
        forms.iter().find(|own| own.form == error.form && (own.code)(&error.code))
    }
}

/// What an error's text must say for a [`Rule`] to hold; compared in lower case with the message and the details.
#[derive(Clone, Copy, Debug)]
pub enum Says<'r> {
    /// No matter what.
    Anything,
    /// One of these is part of it.
    AnyOf(&'r [&'r str]),
    /// It is this and no more.
    Exactly(&'r str),
}

/// One line of a dialect's table. The first that holds decides.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'r> {
    /// The code of the error; empty for any.
    pub code: &'r str,
    /// What its text must say.
    pub says: Says<'r>,
    /// What it means.
    pub class: FailureClass,
    /// What happened, and after a colon what to do, with `{task}`, `{scope}` and `{clock}` to be filled in; empty for the class's own words.
    pub advice: &'r str,
}

impl<'r> Rule<'r> {
    /// A code that always means the same.
    #[must_use]
    pub const fn code(code: &'r str, class: FailureClass, advice: &'r str) -> Self {
        Self { code, says: Says::Anything, class, advice }
    }

    /// A code whose meaning depends on the text.
    #[must_use]
    pub const fn text(code: &'r str, says: &'r [&'r str], class: FailureClass, advice: &'r str) -> Self {
        Self { code, says: Says::AnyOf(says), class, advice }
    }

    /// The first of `rules` that holds for an error with this code, however it is prefixed, and this text.
    #[must_use]
    pub fn find(rules: &'r [Self], code: &str, error: &Envelope) -> Option<&'r Self> {
        let details = error.details.iter().flat_map(|detail| [detail.kind.as_str(), detail.value.as_str()]);
        let said = [error.message.as_str()].into_iter().chain(details).collect::<Vec<_>>().join("\n").to_lowercase();
        rules.iter().filter(|rule| rule.code.is_empty() || rule.code == code).find(|rule| match rule.says {
            Says::Anything => true,
            Says::AnyOf(parts) => parts.iter().any(|part| said.contains(part)),
            Says::Exactly(text) => said.trim().trim_end_matches('.') == text,
        })
    }
}

/// What an issuer of tokens says when it wants a second factor.
pub const SECOND_FACTOR: &[Rule<'static>] = &[Rule::text(
    "",
    &[
        "mfa",
        "totp",
        "second factor",
        "two-factor",
        "two factor",
        "2fa",
        "multi-factor",
        "multifactor",
        "multi factor",
        "verification code",
        "one-time password",
        "required_auth_methods",
    ],
    FailureClass::AuthenticationFailed,
    "",
)];

/// Whether a code is an error's status of HTTP over again.
#[must_use]
pub fn is_of_http(code: &str) -> bool {
    code.len() == 3 && code.parse().is_ok_and(|code: u16| (400..600).contains(&code))
}

/// Whether a code is words and a number, as `Common.0011`, `EVS.2024`, `SFS.TURBO.0001`.
#[must_use]
pub fn is_numbered(code: &str) -> bool {
    let Some((words, number)) = code.rsplit_once('.') else { return false };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    words.starts_with(|c: char| c.is_ascii_alphabetic())
        && words.chars().all(is_word)
        && (1..=8).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}
