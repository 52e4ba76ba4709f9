//! What to do about a failure: the one place where it is put together with what happened.

use super::failure::{
    DEFECT, EGRESS_DENIED, Failure, FailureClass, INSECURE_ENDPOINT, NO_MEMORY, NOT_HTTP, TLS_FAILURE,
};

impl Failure {
    /// The failure with what is to be done about it, which who found it knows better than its class: the field to check, the Secret.
    #[must_use]
    pub fn advising(self, advice: &str) -> Self {
        Self { advice: sentence(advice).into(), ..self }
    }

    /// What happened, then what to do: each once, in whole sentences.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("{} {}", self.what(), self.advice())
    }

    /// What happened, as a sentence, with the upstream's code where the text does not have it.
    #[must_use]
    pub fn what(&self) -> String {
        let text = self.message.trim_end();
        let text = if text.is_empty() { self.class.as_str() } else { text };
        let has_code = self.code.is_empty() || text.contains(&self.code);
        let code = if has_code { String::new() } else { format!(" ({})", self.code) };
        sentence(&format!("{}{code}", text.strip_suffix('.').unwrap_or(text)))
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &str {
        let by_code = || BY_CODE.iter().find(|(code, _)| *code == self.code).map(|(_, advice)| *advice);
        if self.advice.is_empty() { by_code().unwrap_or_else(|| by_class(self.class)) } else { &self.advice }
    }
}

/// What to do about the operator's own codes.
const BY_CODE: &[(&str, &str)] = &[
    (
        EGRESS_DENIED,
        "The operator's administrator can allow them with --allow-egress, and finds the reason in the operator's log.",
    ),
    (INSECURE_ENDPOINT, "Use https:// in the endpoint, or have the operator's administrator set --allow-http."),
    (NOT_HTTP, "Retrying. If this continues, check port and scheme of the endpoint."),
    (
        TLS_FAILURE,
        "Retrying. If this continues, check the server's certificate and TLS settings, and spec.tls of the connection.",
    ),
    (
        NO_MEMORY,
        "Retrying. If this continues, lower spec.rateLimit.maxInFlight of the connection, or have the operator's memory limit raised.",
    ),
    (DEFECT, "Retrying at growing intervals. Please report this with the operator's log."),
];

/// What to do where no more is known than the class.
fn by_class(class: FailureClass) -> &'static str {
    match class {
        FailureClass::UpstreamUnavailable => {
            "Retrying. If this continues, check the connection's endpoint and the network path to it."
        }
        FailureClass::RateLimited => "Retrying more slowly. If this continues, lower rateLimit on the connection.",
        FailureClass::AuthenticationFailed => "Put a valid credential into the Secret of the connection.",
        FailureClass::PermissionDenied => {
            "Give the credential permission to read tasks, or name another one on the connection."
        }
        FailureClass::ScopeNotFound => {
            "Check spec.task.scope, and the project, account or service instance of the connection."
        }
        FailureClass::NotFound => "Check spec.task.id.",
        FailureClass::InvalidRequest => "Check spec.task.id, and the provider of the connection.",
        FailureClass::InvalidAnswer => {
            "Retrying. If this continues, check that the connection's endpoint is the API of its provider."
        }
    }
}

/// What those may be told who share a connection but do not own it, see [`Failure::for_others`]: what happened, and what to do.
/// The words fit one task and all tasks of a scope.
pub(super) fn for_others(class: FailureClass) -> (&'static str, &'static str) {
    match class {
        FailureClass::NotFound => ("The upstream does not know the task.", "Check spec.task.id."),
        FailureClass::ScopeNotFound => (
            "The upstream does not know the scope that was asked for.",
            "Check the scope that spec names; the owner of the connection can see more in its status.",
        ),
        FailureClass::AuthenticationFailed => (
            "The upstream rejected the connection's credential.",
            "The owner of the connection can see why in its status.",
        ),
        FailureClass::PermissionDenied => (
            "The connection's credential is not permitted to read what was asked for.",
            "The owner of the connection can see why in its status.",
        ),
        FailureClass::RateLimited => {
            ("The upstream limits the rate of the connection's requests.", "Retrying more slowly.")
        }
        FailureClass::UpstreamUnavailable => (
            "The upstream cannot be reached, or cannot answer at the moment.",
            "Retrying; the owner of the connection can see why in its status.",
        ),
        FailureClass::InvalidRequest => (
            "The upstream refuses what was asked for.",
            "Check the identifiers that spec names; the owner of the connection can see more in its status.",
        ),
        FailureClass::InvalidAnswer => (
            "The upstream answered with something other than what was asked for.",
            "Retrying; the owner of the connection can see more in its status.",
        ),
    }
}

/// `text` with a capital letter at its beginning and a full stop at its end; nothing stays nothing.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    // A word of several capitals, or a name as `evs.example`, is left as it is.
    let is_word = text.split(' ').next().is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    let first = if is_word { first.to_ascii_uppercase() } else { first };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", rest.as_str())
}
