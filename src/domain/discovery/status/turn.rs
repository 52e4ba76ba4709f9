//! Whether Ready has changed after it had been steady. Such a change is told at once, however many other changes have used up the pace of
//! the set; one of a Ready that comes and goes has the pace of everything else.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::domain::{
    cadence::later,
    conditions::{FALSE, TRUE, UNKNOWN},
};

/// Ready is steady when it has had its status for so long.
const STEADY: Duration = Duration::from_secs(10);

/// How Ready stands, told or not. It is not in the status itself: a restart goes by what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its status, and since when; none before the first decision of this process.
    stands: Option<(&'static str, Timestamp)>,
    /// It had been steady when it took that status.
    was_steady: bool,
}

impl Turn {
    /// Ready has this status now. `told` is how it was told last.
    #[must_use]
    pub(super) fn to(self, status: &'static str, told: Option<&Condition>, now: Timestamp) -> Self {
        let told = told.and_then(|told| {
            let known = [TRUE, FALSE, UNKNOWN].into_iter().find(|known| *known == told.status)?;
            Some((known, told.last_transition_time.0))
        });
        match self.stands.or(told) {
            None => Self { stands: Some((status, now)), was_steady: false },
            Some((before, since)) if before == status => Self { stands: Some((before, since)), ..self },
            // A time in the future is of a clock that was ahead: it says nothing of how long ago it is.
            Some((_, since)) => {
                Self { stands: Some((status, now)), was_steady: since > now || later(since, STEADY) <= now }
            }
        }
    }

    /// Whether Ready was steady before it took the status that it has.
    pub(super) fn was_steady(self) -> bool {
        self.was_steady
    }

    /// The clock was stepped so far.
    pub fn step_clock(&mut self, step: SignedDuration) {
        self.stands = self.stands.map(|(status, since)| (status, since.checked_add(step).unwrap_or(since)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{conditions::READY, stored};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn told(status: &str, since: i64) -> Condition {
        Condition {
            type_: READY.to_owned(),
            status: status.to_owned(),
            reason: "Observed".to_owned(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: stored::time(at(since)),
        }
    }

    /// Whether Ready had been steady, after it was seen with each status at each time.
    fn was_steady(told: Option<&Condition>, seen: &[(&'static str, i64)]) -> bool {
        seen.iter().fold(Turn::default(), |turn, (status, second)| turn.to(status, told, at(*second))).was_steady()
    }

    #[test]
    fn what_had_lasted_was_steady() {
        for (expected, seen) in [
            (false, vec![(TRUE, 0)]),
            (false, vec![(TRUE, 0), (TRUE, 60)]),
            (false, vec![(TRUE, 0), (FALSE, 9)]),
            (true, vec![(TRUE, 0), (TRUE, 5), (FALSE, 10)]),
            (true, vec![(TRUE, 0), (FALSE, 10), (FALSE, 11)]),
            (false, vec![(TRUE, 0), (FALSE, 10), (TRUE, 11)]),
            (false, vec![(TRUE, 0), (FALSE, 10), (TRUE, 11), (FALSE, 20)]),
            (true, vec![(TRUE, 0), (FALSE, 3), (UNKNOWN, 13)]),
        ] {
            assert_eq!(was_steady(None, &seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_restart_goes_by_what_was_told() {
        assert!(was_steady(Some(&told(TRUE, 0)), &[(FALSE, 10)]));
        assert!(!was_steady(Some(&told(TRUE, 0)), &[(FALSE, 9)]));
        assert!(was_steady(Some(&told(TRUE, 0)), &[(TRUE, 5), (FALSE, 10)]));
        assert!(was_steady(Some(&told(TRUE, 100)), &[(FALSE, 10)]), "by a clock that was ahead");
        assert!(!was_steady(Some(&told("other", 0)), &[(FALSE, 10)]));
    }

    #[test]
    fn a_step_of_the_clock_is_no_time_that_passes() {
        let mut turn = Turn::default().to(TRUE, None, at(0));
        turn.step_clock(SignedDuration::from_secs(3600));
        assert!(!turn.to(FALSE, None, at(3605)).was_steady());
        assert!(turn.to(FALSE, None, at(3610)).was_steady());
    }
}
