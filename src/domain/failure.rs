//! Why a look at an upstream gave no task: the classes of a failed request (design §3).

use std::time::Duration;

use jiff::Timestamp;

use super::advice;

/// What kind of failure a request met with; what to do next follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureClass {
    /// The upstream does not know the task.
    NotFound,
    /// The upstream does not know the account, project or service instance.
    ScopeNotFound,
    /// The credential was refused.
    AuthenticationFailed,
    /// The credential is good, but may not do this.
    PermissionDenied,
    /// Too many requests.
    RateLimited,
    /// 5xx, network, time-out, a conflict that passes by itself.
    UpstreamUnavailable,
    /// The upstream refuses what was asked.
    InvalidRequest,
    /// The body is not what was asked for: HTML, another task, no JSON, too large.
    InvalidAnswer,
}

impl FailureClass {
    /// The CamelCase word: condition reason, metric label and `class` of `taskwatch decode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::ScopeNotFound => "ScopeNotFound",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::PermissionDenied => "PermissionDenied",
            Self::RateLimited => "RateLimited",
            Self::UpstreamUnavailable => "UpstreamUnavailable",
            Self::InvalidRequest => "InvalidRequest",
            Self::InvalidAnswer => "InvalidAnswer",
        }
    }
}

/// [`Failure::code`] of an answer whose body is larger than the request's limit.
pub const BODY_TOO_LARGE: &str = "TooLarge";

/// [`Failure::code`] of a list with an entry, or with text beside its entries, that is larger than is held of one.
pub const ELEMENT_TOO_LARGE: &str = "ElementTooLarge";

/// [`Failure::code`] of a list that a namespace has no memory left for.
pub const NO_MEMORY: &str = "NoMemory";

/// [`Failure::code`] of an answer that is not HTTP.
pub const NOT_HTTP: &str = "NotHTTP";

/// [`Failure::code`] of a TLS handshake that has failed.
pub const TLS_FAILURE: &str = "TLSFailure";

/// [`Failure::code`] of an answer over which the operator panics.
pub const DEFECT: &str = "Defect";

/// [`Failure::code`] of a request that the operator's administrator does not let out.
pub const EGRESS_DENIED: &str = "EgressDenied";

/// [`Failure::code`] of a request that would have sent a credential unprotected.
pub const INSECURE_ENDPOINT: &str = "InsecureEndpoint";

/// A failed request, in words that may be shown: cleaned, bounded, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", class.as_str(), if code.is_empty() { String::new() } else { format!(" ({code})") })]
pub struct Failure {
    /// What to make of it.
    pub class: FailureClass,
    /// The upstream's own code, always as text; empty where it gave none.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// What to do about it, as a sentence; empty for what its code or class advises.
    pub advice: Box<str>,
    /// The HTTP status of the answer; none when there was no answer.
    pub http_status: Option<u16>,
    /// `Retry-After`, where the answer had one.
    pub retry_after: Option<RetryAfter>,
    /// The upstream's identifier for support questions.
    pub correlation_id: Option<String>,
}

impl Failure {
    /// The code, where the operator's administrator does not let the request out: then it will not be let out at the next try either.
    #[must_use]
    pub fn by_policy(&self) -> Option<&'static str> {
        [EGRESS_DENIED, INSECURE_ENDPOINT].into_iter().find(|code| self.code == *code)
    }

    /// A failure with no more than a class and a message.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            code: String::new(),
            message: message.into(),
            advice: Box::default(),
            http_status: None,
            retry_after: None,
            correlation_id: None,
        }
    }
}

impl Failure {
    /// What those may be told who share a connection but do not own it: class, HTTP status, `Retry-After`, the code where it is a plain
    /// word, and a sentence of our own. Nothing that an upstream, a Secret or an address has said is in it.
    #[must_use]
    pub fn for_others(&self) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let plain = self.code.len() <= PLAIN_CODE && self.code.chars().all(is_plain);
        let (message, advice) = advice::for_others(self.class);
        Self {
            class: self.class,
            code: if plain { self.code.clone() } else { String::new() },
            message: message.to_owned(),
            advice: advice.into(),
            http_status: self.http_status,
            retry_after: self.retry_after,
            correlation_id: None,
        }
    }
}

/// Longest code that others are told, in bytes: those of the upstreams are shorter.
const PLAIN_CODE: usize = 64;

impl FailureClass {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 8] = [
        Self::NotFound,
        Self::ScopeNotFound,
        Self::AuthenticationFailed,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::UpstreamUnavailable,
        Self::InvalidRequest,
        Self::InvalidAnswer,
    ];
}

/// The two forms of `Retry-After` (RFC 9110 §10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryAfter {
    /// So long from the answer.
    After(Duration),
    /// Not before this time.
    At(Timestamp),
}

impl RetryAfter {
    /// The longest wait that is honoured; a larger figure is a mistake of the upstream's.
    pub const MAX: Duration = Duration::from_hours(1);

    /// How long to wait from `now`, at most [`Self::MAX`].
    #[must_use]
    pub fn wait(self, now: Timestamp) -> Duration {
        let wait = match self {
            Self::After(wait) => wait,
            Self::At(time) => Duration::try_from(time.duration_since(now)).unwrap_or_default(),
        };
        wait.min(Self::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Failure, FailureClass, RetryAfter};

    #[test]
    fn others_are_told_nothing_that_came_from_elsewhere() {
        for class in FailureClass::ALL {
            let foreign = "Secret ops/prod-admin (key root-password) at 10.0.0.7:8443 api.corp.test: Bearer eyJabc";
            let failure = Failure {
                class,
                code: "EVS.2024".to_owned(),
                message: foreign.to_owned(),
                advice: foreign.into(),
                http_status: Some(418),
                retry_after: Some(RetryAfter::After(Duration::from_secs(7))),
                correlation_id: Some("prod-admin".to_owned()),
            };
            let told = failure.for_others();
            let (sentence, advice) = (told.message.clone(), told.advice.clone());
            assert!(sentence.starts_with("The ") && sentence.ends_with('.'), "{sentence}");
            assert!(advice.ends_with('.'), "{advice}");
            // A set asks for no single task.
            assert!(
                class == FailureClass::NotFound || !format!("{sentence} {advice}").contains("task"),
                "{sentence} {advice}"
            );
            assert_eq!(
                told,
                Failure { message: sentence.clone(), advice: advice.clone(), correlation_id: None, ..failure.clone() },
                "class, plain code, status and wait are kept"
            );
            assert_eq!(told.for_others(), told);
            // The same whatever happened: nothing of it can be in the sentence.
            let other = Failure::new(class, "").for_others();
            assert_eq!((other.message, other.advice), (sentence, advice));
            for code in ["api.corp.test:8443", "a b", "ключ", "<x>", "Bearer\u{a0}x", "x".repeat(65).as_str()] {
                let failure = Failure { code: code.to_owned(), ..failure.clone() };
                assert_eq!(failure.for_others().code, "", "{code}");
            }
        }
    }

    #[test]
    fn no_class_is_missing() {
        let mut words: Vec<_> = FailureClass::ALL.iter().map(|class| class.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 8);
    }
}
