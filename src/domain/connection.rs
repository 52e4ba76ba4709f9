//! The status of a connection: whether its upstream answers and takes its credential.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::{
    availability::{Outlook, Reason, Unavailable},
    conditions::{self, FALSE, READY, Remark, TRUE, UNKNOWN, abnormal, find, reason},
    failure::{Failure, FailureClass},
    stored,
};
use crate::api::{ConnectionStatus, WatchCounts};

/// All that the decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// `metadata.generation`
    pub generation: i64,
    /// The status that the API server acknowledged last.
    pub status: Option<&'a ConnectionStatus>,
    /// How its upstream answers; or why the connection cannot be used.
    pub upstream: Result<Upstream<'a>, &'a Unavailable>,
    /// Watches that are not finished.
    pub active: usize,
    /// Watches that are finished.
    pub finished: usize,
    /// List or Get.
    pub mode: Option<&'static str>,
    /// When an answer last was of use.
    pub last_success: Option<Timestamp>,
    /// Until when the upstream asked to be left alone; none where that is not worth keeping.
    pub retry_at: Option<Timestamp>,
}

/// How the upstream of a connection that can be used answers.
#[derive(Clone, Debug)]
pub enum Upstream<'a> {
    /// Nothing has been answered since the operator began.
    Untried,
    /// The upstream cannot be asked.
    Failing { failure: &'a Failure },
    /// The upstream answers.
    Answering {
        /// By how much the periods are stretched for want of budget; 1 is not at all.
        stretch: f64,
        /// Its tenant is delayed, for having used its share of processing time.
        throttled: bool,
        /// What is sent, its credential included, can be read on the way.
        insecure: bool,
    },
}

/// `lastSuccessTime` alone is not worth a write more often than this.
const SUCCESS_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// A smaller stretch is not worth mentioning.
const STRETCHED: f64 = 1.2;

/// What is said: the status of Ready and why, and what is to be expected where it is not True.
struct Says {
    ready: &'static str,
    remark: Remark,
    abnormal: Option<Outlook>,
}

impl Says {
    fn new(ready: &'static str, reason: &str, message: impl Into<String>, abnormal: Option<Outlook>) -> Self {
        Self { ready, remark: Remark { reason: reason.to_owned(), message: message.into() }, abnormal }
    }
}

/// The status to write; none where a reader would see nothing new.
#[must_use]
pub fn decide(input: &Input<'_>, now: Timestamp) -> Option<ConnectionStatus> {
    let old = input.status;
    // After a restart the old word stands until the upstream has answered. What it asked for, too.
    if matches!(input.upstream, Ok(Upstream::Untried)) && old.is_some_and(|old| keeps(old, input)) {
        return None;
    }
    let says = says(input);
    let conditions = [Some((READY, says.ready)), says.abnormal.map(|outlook| (abnormal(outlook), TRUE))];
    let conditions = conditions::build(
        conditions.into_iter().flatten().map(|(kind, status)| (kind, status, &says.remark)),
        old.map(|old| old.conditions.as_slice()).unwrap_or_default(),
        input.generation,
        now,
    );
    let count = |count| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let mut new = ConnectionStatus {
        observed_generation: Some(input.generation),
        watches: Some(WatchCounts { active: count(input.active), finished: count(input.finished) }),
        mode: input.mode.map(str::to_owned).or_else(|| old?.mode.clone()),
        last_success_time: old.and_then(|old| old.last_success_time.clone()),
        retry_after_time: input.retry_at.filter(|at| *at > now).map(stored::time),
        conditions,
    };
    // Either way: a clock that was ahead has told of the future.
    let is_news = |at: Timestamp| {
        let told = new.last_success_time.as_ref();
        told.is_none_or(|told| at.duration_since(told.0).abs() >= SUCCESS_EVERY)
    };
    let newer = input.last_success.filter(|at| is_news(*at));
    if newer.is_none() && old == Some(&new) {
        return None;
    }
    new.last_success_time = input.last_success.map(stored::time).or(new.last_success_time);
    Some(new)
}

/// Whether somebody has had it open, and may have polled through it: its condition tells of the upstream, or it has had an answer.
#[must_use]
pub fn was_open(status: &ConnectionStatus) -> bool {
    status.last_success_time.is_some() || is_told_by_upstream(status)
}

fn is_told_by_upstream(status: &ConnectionStatus) -> bool {
    find(&status.conditions, READY).is_some_and(|ready| Reason::of_word(&ready.reason).is_none())
}

/// Whether the old status, of before a restart, still stands for what has not been tried since.
fn keeps(old: &ConnectionStatus, input: &Input<'_>) -> bool {
    let current = old.observed_generation == Some(input.generation);
    let counts = old.watches.as_ref().and_then(|watches| watches.active);
    let idle = counts == Some(0);
    current && is_told_by_upstream(old) && idle == (input.active == 0)
}

fn says(input: &Input<'_>) -> Says {
    let upstream = match &input.upstream {
        Ok(upstream) => upstream,
        Err(Unavailable { reason, message }) => {
            return Says::new(FALSE, reason.as_str(), message, Some(reason.outlook()));
        }
    };
    match upstream {
        Upstream::Untried if input.active == 0 => {
            let message = "No unfinished TaskWatch uses this connection, so the upstream has not been tried";
            Says::new(TRUE, reason::IDLE, message, None)
        }
        Upstream::Untried => {
            Says::new(UNKNOWN, reason::AWAITING_ANSWER, "The upstream has not answered yet", Some(Outlook::MayPass))
        }
        Upstream::Failing { failure } => {
            let reason = failure.by_policy().unwrap_or(failure.class.as_str());
            Says::new(FALSE, reason, failure.explain(), Some(outlook(failure)))
        }
        Upstream::Answering { stretch, throttled, insecure } => {
            Says::new(TRUE, reason::CONNECTED, working(*stretch, *throttled, *insecure), None)
        }
    }
}

/// What there is to know of a connection that works.
fn working(stretch: f64, throttled: bool, insecure: bool) -> String {
    let mut message = "The upstream answers".to_owned();
    if insecure {
        message += ". It uses http://: what is sent, its credential included, can be read on the way; use https:// where the upstream has it";
    }
    if stretch >= STRETCHED {
        let _ = write!(
            message,
            ". There is more to ask than rateLimit allows: every period is up to {} times as long as wanted; raise \
             spec.rateLimit.requestsPerSecond, or the periods",
            step(stretch)
        );
    }
    if throttled {
        message += ". Its requests are delayed: the answers to the namespace's connections take more processing time than its share; \
                    lower spec.rateLimit, or raise the periods";
    }
    message
}

/// The stretch as it is told: it moves with each watch, and each word would be a write. The next power of two.
fn step(stretch: f64) -> u64 {
    let steps = std::iter::successors(Some(2_u64), |step| step.checked_mul(2));
    #[allow(clippy::cast_precision_loss, reason = "powers of two are exact")]
    steps.take(32).find(|&step| stretch <= step as f64).unwrap_or(u64::MAX)
}

/// Whether this trouble may pass by itself.
fn outlook(failure: &Failure) -> Outlook {
    let class = failure.class;
    let passes = failure.by_policy().is_none()
        && matches!(class, FailureClass::UpstreamUnavailable | FailureClass::RateLimited | FailureClass::InvalidAnswer);
    if passes { Outlook::MayPass } else { Outlook::NeedsAction }
}

#[cfg(test)]
mod tests;
