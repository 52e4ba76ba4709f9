//! How long a connection sends nothing, and why.

use std::fmt;

use serde::Serialize;
use tokio::time::Instant;

/// How long a connection sends nothing, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When to ask for a job again; none when only an answer or a command can change anything.
    pub until: Option<Instant>,
    /// The reason that holds longest.
    pub why: Why,
}

/// Why a connection sends nothing at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Why {
    /// It does: there is something to send, and nothing against it.
    Ready,
    /// Nothing is watched that has to be polled.
    Nothing,
    /// Nothing is due yet.
    Due,
    /// Something is due, and is sent together with what comes due a moment later.
    Gathering,
    /// The requests per second are spent.
    Budget,
    /// As many requests as may be are in flight, or all that is to be asked for is.
    InFlight,
    /// The credential is being exchanged for a token.
    Token,
    /// The credential was refused for something; whether for that alone is being found out.
    Doubt,
    /// The upstream asked for silence.
    RetryAfter,
    /// The upstream limits the rate, and did not say until when.
    RateLimited,
    /// The upstream is down, or cannot be reached.
    Outage,
    /// The credential is refused: another attempt too soon may lock it.
    Credential,
    /// The tenant has spent its share of the requests of all connections.
    Share,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "a request can be sent now",
            Self::Nothing => "there is nothing to poll",
            Self::Due => "no poll is due yet",
            Self::Gathering => "what is due is sent together with what comes due a moment later",
            Self::Budget => "the connection's requests per second are spent",
            Self::InFlight => "answers to the requests in flight are awaited",
            Self::Token => "the credential is being exchanged for a token",
            Self::Doubt => "the credential was rejected once, and it is being found out whether for that request only",
            Self::RetryAfter => "the upstream asked to wait (Retry-After)",
            Self::RateLimited => "the upstream limits the rate of requests",
            Self::Outage => "the upstream is unavailable, and is tried again after a while",
            Self::Credential => "the upstream rejects the credential; trying again at once might lock it",
            Self::Share => "the namespace has spent its share of the operator's requests",
        })
    }
}
