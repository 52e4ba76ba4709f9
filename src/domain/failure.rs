//! Why a look at an upstream gave no task: the classes of a failed request (design §3).

use std::time::Duration;

use jiff::Timestamp;

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

/// [`Failure::code`] of a request that the operator's administrator does not let out.
pub const EGRESS_DENIED: &str = "EgressDenied";

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
    /// The HTTP status of the answer; none when there was no answer.
    pub http_status: Option<u16>,
    /// `Retry-After`, where the answer had one.
    pub retry_after: Option<RetryAfter>,
    /// The upstream's identifier for support questions.
    pub correlation_id: Option<String>,
}

impl Failure {
    /// A failure with no more than a class and a message.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            code: String::new(),
            message: message.into(),
            http_status: None,
            retry_after: None,
            correlation_id: None,
        }
    }
}

/// The longest code that is passed on to others, in bytes.
const CODE: usize = 64;

impl Failure {
    /// What those are told of it who use a shared connection: its class, a code that is no text, and a fixed sentence. Nothing of the
    /// upstream's own words, nor of where it is.
    #[must_use]
    pub fn for_others(&self) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let code = Some(&self.code).filter(|code| code.len() <= CODE && code.bytes().all(plain));
        let message = match self.class {
            FailureClass::NotFound => "The upstream does not know this task",
            FailureClass::ScopeNotFound => "The upstream does not know this account, project or service instance",
            FailureClass::AuthenticationFailed => "The upstream refuses the credential of the shared connection",
            FailureClass::PermissionDenied => "The upstream does not let the shared connection read this task",
            FailureClass::RateLimited => "The upstream asks for fewer requests",
            FailureClass::UpstreamUnavailable => "The upstream cannot be reached, or is not able to answer",
            FailureClass::InvalidRequest => "The upstream refuses the request for this task",
            FailureClass::InvalidAnswer => "The upstream's answer is not what was asked for",
        };
        Self {
            class: self.class,
            code: code.cloned().unwrap_or_default(),
            message: message.to_owned(),
            http_status: self.http_status,
            retry_after: self.retry_after,
            correlation_id: None,
        }
    }
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
