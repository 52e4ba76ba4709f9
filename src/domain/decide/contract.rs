//! The table of the status contract: what each row says in its conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::ReadyWhen,
    domain::{
        availability::{Outlook, Reason},
        conditions::{
            self, FALSE, FINISHED, READY, RECONCILING, Remark, STALLED, SUCCEEDED, SYNCED, TRUE, UNKNOWN, reason,
        },
    },
};

/// The word of `status.state` for a task that the upstream does not know; that for one not seen yet is [`UNKNOWN`].
pub(super) const LOST: &str = "Lost";

/// A row of the table; numbers are those of design §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    /// 1: nothing has been written.
    Untouched,
    /// 2: the first answer is awaited, or the first one after the connection became usable or the watch was resumed.
    Awaiting,
    /// 3
    Pending,
    /// 4
    Running,
    /// 5
    Paused,
    /// 6
    Succeeded,
    /// 6, by `onNotFound: Succeed`: the upstream no longer knows the task.
    Gone,
    /// 7
    Failed,
    /// 8
    Cancelled,
    /// 9: not found after the grace.
    Lost,
    /// Before 9: not found within the grace, or with `onNotFound: Retry`.
    Missing,
    /// 10: the upstream cannot be asked.
    Trouble,
    /// 11: for too long.
    Stale,
    /// 12
    Deadline,
    /// 13
    Suspended,
    /// 14: somebody has to change the watch or the connection.
    Unusable,
    /// 15: something that the watch needs is not there yet.
    Waiting,
}

impl Row {
    /// The row of a watch whose connection cannot be used.
    pub(super) fn without_connection(reason: Reason) -> Self {
        match reason.outlook() {
            Outlook::MayPass => Self::Waiting,
            Outlook::NeedsAction => Self::Unusable,
        }
    }

    pub(super) fn is_finished(self) -> bool {
        cells(self).finished == TRUE
    }
}

/// What a row says. Reconciling and Stalled are there only where they are true.
struct Cells {
    succeeded: &'static str,
    finished: &'static str,
    synced: &'static str,
    /// With `readyWhen: TaskSucceeded`.
    task: Gate,
    /// With `readyWhen: Observed`.
    mirror: Gate,
}

/// Ready, and which of the other two goes with it.
type Gate = (&'static str, Option<&'static str>);

/// The table.
#[allow(clippy::match_same_arms)] // one line for each row
fn cells(row: Row) -> Cells {
    const T: &str = TRUE;
    const F: &str = FALSE;
    const U: &str = UNKNOWN;
    const NONE: Option<&str> = None;
    const R: Option<&str> = Some(RECONCILING);
    const S: Option<&str> = Some(STALLED);
    #[rustfmt::skip]
    let (succeeded, finished, synced, task, mirror) = match row {
        Row::Untouched  => (U, F, U, (U, NONE), (U, NONE)),
        Row::Awaiting   => (U, F, U, (U, R),    (U, R)),
        Row::Pending    => (U, F, T, (U, R),    (T, NONE)),
        Row::Running    => (U, F, T, (U, R),    (T, NONE)),
        Row::Paused     => (U, F, T, (U, R),    (T, NONE)),
        Row::Succeeded  => (T, T, T, (T, NONE), (T, NONE)),
        Row::Gone       => (T, T, T, (T, NONE), (T, NONE)),
        Row::Failed     => (F, T, T, (F, S),    (T, NONE)),
        Row::Cancelled  => (F, T, T, (F, S),    (T, NONE)),
        Row::Lost       => (F, T, T, (F, S),    (T, NONE)),
        Row::Missing    => (U, F, F, (U, R),    (U, R)),
        Row::Trouble    => (U, F, F, (U, R),    (U, R)),
        Row::Stale      => (U, F, F, (F, S),    (F, S)),
        Row::Deadline   => (F, T, T, (F, S),    (T, NONE)),
        Row::Suspended  => (U, F, U, (U, NONE), (U, NONE)),
        Row::Unusable   => (U, F, F, (F, S),    (F, S)),
        Row::Waiting    => (U, F, F, (U, R),    (U, R)),
    };
    Cells { succeeded, finished, synced, task, mirror }
}

/// The conditions of a row; a transition time of `old` stays where the status does.
pub(super) fn of(
    row: Row,
    ready_when: ReadyWhen,
    (succeeded, synced): (&Remark, &Remark),
    old: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let cells = cells(row);
    // Where the mirror is broken, that is what keeps the object from being ready; else it is the task.
    let cause = if cells.synced == FALSE { synced } else { succeeded };
    let observed = Remark { reason: reason::OBSERVED.to_owned(), message: succeeded.message.clone() };
    let ((ready, beside), why) = match ready_when {
        ReadyWhen::TaskSucceeded => (cells.task, cause),
        ReadyWhen::Observed if cells.mirror.0 == TRUE => (cells.mirror, &observed),
        ReadyWhen::Observed => (cells.mirror, cause),
    };
    let said = [
        Some((SUCCEEDED, cells.succeeded, succeeded)),
        Some((FINISHED, cells.finished, succeeded)),
        Some((SYNCED, cells.synced, synced)),
        Some((READY, ready, why)),
        beside.map(|kind| (kind, TRUE, cause)),
    ];
    conditions::build(said.into_iter().flatten(), old, generation, now)
}
