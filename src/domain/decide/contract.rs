//! The status contract as one table: what each row says in its conditions, whether the task is polled in it, and what it is worth telling.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use self::{
    Cause::{Fixed, Given, LastState, OfConnection, OfRequest},
    Polled::{Always, IfRequested, Never, Search},
    Tells::{Change, EndsBadly, EndsWell, Nothing, OutOfSync},
};
use super::messages::{
    AWAITING, CANCELLED, CURRENT, FAILED, NOT_FOUND, OVERDUE, PAUSED, PENDING, RUNNING, SUCCESS, SUSPENDED, Says,
};
use crate::{
    api::{ReadyWhen, TaskWatchStatus},
    domain::{
        availability::{Outlook, Reason},
        conditions::{
            self, FALSE, FINISHED, READY, RECONCILING, Remark, STALLED, SUCCEEDED, SYNCED, TRUE, UNKNOWN, find,
            reason::{
                AWAITING_TASK, AWAITING_TASK_ID, DEADLINE_EXCEEDED, LIST_NOT_SUPPORTED, OBSERVED, TASK_CANCELLED,
                TASK_FAILED, TASK_GONE, TASK_NOT_FOUND, TASK_PAUSED, TASK_PENDING, TASK_RUNNING, TASK_SUCCEEDED,
            },
        },
        task::TaskState,
    },
};

/// One line of the table.
pub(super) struct Line {
    /// What the row makes of `status.state`; none where that is what was observed last.
    pub state: Option<&'static str>,
    /// Succeeded, Finished, Synced.
    cells: [&'static str; 3],
    /// With `readyWhen: TaskSucceeded`.
    task: Gate,
    /// With `readyWhen: Observed`.
    mirror: Gate,
    /// Why Succeeded is as it is.
    outcome: Cause,
    /// Why Synced is as it is.
    sync: Cause,
    /// Whether the task is polled.
    pub polled: Polled,
    /// Which event goes with it.
    pub tells: Tells,
}

/// Ready, and which of Reconciling and Stalled goes with it: they are there only where they are true.
type Gate = (&'static str, Option<&'static str>);

/// Where the reason and the message of a condition come from.
#[derive(Clone, Copy)]
enum Cause {
    /// The row has both; what is known may give a more particular message.
    Fixed(Says),
    /// The row has the reason; what is known gives the message.
    Given(&'static str),
    /// From what was last known of the task.
    LastState,
    /// From why the connection cannot be used: a [`Reason`].
    OfConnection,
    /// From the failure of a request.
    OfRequest,
}

/// When the task is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    Always,
    Never,
    /// As soon as it is known which it is: that is what is looked for.
    Search,
    /// Once, when a look is requested.
    IfRequested,
}

/// Which event goes with a row, and its reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    Nothing,
    /// A task that goes on has another state.
    Change(&'static str),
    /// The status no longer shows what the upstream says: the reason and the message are those of Synced.
    OutOfSync,
    EndsWell(&'static str),
    EndsBadly(&'static str),
}

/// Makes both the rows and their lines of the table below: no row is without a line.
macro_rules! table {
    ($($row:ident $state:tt $cells:tt $task:tt $mirror:tt $outcome:expr, $sync:expr, $polled:expr, $tells:expr;)*) => {
        /// A row of the table: the situation of a watch. Row 1 is not among them: nothing has been written there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Row { $($row),* }

        impl Row {
            /// All of them.
            const ALL: &'static [Self] = &[$(Self::$row),*];

            /// What the table says of it.
            pub(super) const fn line(self) -> &'static Line {
                match self {
                    $(Self::$row => &Line {
                        state: $state,
                        cells: $cells,
                        task: $task,
                        mirror: $mirror,
                        outcome: $outcome,
                        sync: $sync,
                        polled: $polled,
                        tells: $tells,
                    },)*
                }
            }
        }
    };
}

const T: &str = TRUE;
const F: &str = FALSE;
const U: &str = UNKNOWN;
const NONE: Option<&str> = None;
const R: Option<&str> = Some(RECONCILING);
const S: Option<&str> = Some(STALLED);
const KEPT: Option<&str> = None;

// The numbers are those of design §2.
//  row       state               cells     task      mirror    Succeeded says            Synced says            polled       event
table! {
    // 2: the first answer is awaited, or the first one after the connection became usable or the watch was resumed.
    Awaiting  KEPT                [U, F, U] (U, R)    (U, R)    Fixed(AWAITING),          Fixed(AWAITING),       Always,      Nothing;
    // 16: it is not known yet which task it is: its identifier is not there, or no task matches.
    Unnamed   (Some("Pending"))   [U, F, U] (U, R)    (U, R)    Given(AWAITING_TASK_ID),  Given(AWAITING_TASK_ID), Search,   Nothing;
    Unmatched (Some("Pending"))   [U, F, U] (U, R)    (U, R)    Given(AWAITING_TASK),     Given(AWAITING_TASK),  Search,      Nothing;
    // 14: there are no lists to find it in.
    Unlisted  (Some(UNKNOWN))     [U, F, F] (F, S)    (F, S)    Fixed(AWAITING),          Given(LIST_NOT_SUPPORTED), Never,  OutOfSync;
    // 3, 4, 5: what the upstream says.
    Pending   KEPT                [U, F, T] (U, R)    (T, NONE) Fixed(PENDING),           Fixed(CURRENT),        Always,      Change(TASK_PENDING);
    Running   KEPT                [U, F, T] (U, R)    (T, NONE) Fixed(RUNNING),           Fixed(CURRENT),        Always,      Change(TASK_RUNNING);
    Paused    KEPT                [U, F, T] (U, R)    (T, NONE) Fixed(PAUSED),            Fixed(CURRENT),        Always,      Change(TASK_PAUSED);
    // 6; Gone by `onNotFound: Succeed`, where the upstream no longer knows the task.
    Succeeded KEPT                [T, T, T] (T, NONE) (T, NONE) Fixed(SUCCESS),           Fixed(CURRENT),        IfRequested, EndsWell(TASK_SUCCEEDED);
    Gone      (Some("Succeeded")) [T, T, T] (T, NONE) (T, NONE) Given(TASK_GONE),         Fixed(NOT_FOUND),      IfRequested, EndsWell(TASK_GONE);
    // 7, 8
    Failed    KEPT                [F, T, T] (F, S)    (T, NONE) Fixed(FAILED),            Fixed(CURRENT),        IfRequested, EndsBadly(TASK_FAILED);
    Cancelled KEPT                [F, T, T] (F, S)    (T, NONE) Fixed(CANCELLED),         Fixed(CURRENT),        IfRequested, EndsBadly(TASK_CANCELLED);
    // 9: not found after the grace; Missing before, and with `onNotFound: Retry`.
    Lost      (Some("Lost"))      [F, T, T] (F, S)    (T, NONE) Given(TASK_NOT_FOUND),    Fixed(NOT_FOUND),      IfRequested, EndsBadly("TaskLost");
    Missing   KEPT                [U, F, F] (U, R)    (U, R)    LastState,                Given(TASK_NOT_FOUND), Always,      Nothing;
    // 10: the upstream cannot be asked; 11: for too long.
    Trouble   KEPT                [U, F, F] (U, R)    (U, R)    LastState,                OfRequest,             Always,      OutOfSync;
    Stale     KEPT                [U, F, F] (F, S)    (F, S)    LastState,                OfRequest,             Always,      OutOfSync;
    // 12, 13
    Deadline  KEPT                [F, T, T] (F, S)    (T, NONE) Given(DEADLINE_EXCEEDED), Fixed(OVERDUE),        IfRequested, EndsBadly(DEADLINE_EXCEEDED);
    Suspended KEPT                [U, F, U] (U, NONE) (U, NONE) Fixed(SUSPENDED),         Fixed(SUSPENDED),      Never,       Nothing;
    // 14: somebody has to change the watch or the connection; 15: something that the watch needs is not there yet.
    Unusable  (Some(UNKNOWN))     [U, F, F] (F, S)    (F, S)    LastState,                OfConnection,          Never,       OutOfSync;
    Waiting   KEPT                [U, F, F] (U, R)    (U, R)    LastState,                OfConnection,          Never,       OutOfSync;
}

impl Row {
    /// The row of a watch whose task the upstream shows.
    pub(super) const fn of_task(state: TaskState) -> Self {
        match state {
            TaskState::Pending => Self::Pending,
            TaskState::Running => Self::Running,
            TaskState::Paused => Self::Paused,
            TaskState::Succeeded => Self::Succeeded,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
        }
    }

    /// The row of a watch whose connection cannot be used.
    pub(super) const fn without_connection(reason: Reason) -> Self {
        match reason.outlook() {
            Outlook::MayPass => Self::Waiting,
            Outlook::NeedsAction => Self::Unusable,
        }
    }

    /// The row that a status was written for: the inverse of [`of`]. None where nothing has been written, or nothing that any row says;
    /// an end is an end all the same.
    pub(super) fn of_status(status: &TaskWatchStatus) -> Option<Self> {
        let row = Self::ALL.iter().copied().find(|row| row.line().says(&status.conditions));
        row.or_else(|| is_finished(status).then_some(Self::Failed))
    }

    pub(super) fn is_finished(self) -> bool {
        self.line().cells[1] == TRUE
    }

    /// Whether the row still describes the watch while the upstream is being asked and there is no news.
    pub(super) fn lasts(self) -> bool {
        self.line().polled != Never && !self.is_search()
    }

    /// Whether it is not known yet which task it is.
    pub(super) fn is_search(self) -> bool {
        self.line().polled == Search
    }

    /// What Succeeded says where nothing more particular is known, with the last known `state` of the task.
    pub(super) fn outcome(self, state: &str) -> Says {
        match self.line().outcome {
            Fixed(says) => says,
            Given(reason) => (reason, ""),
            LastState | OfConnection | OfRequest => {
                let known = [(TaskState::Pending, PENDING), (TaskState::Running, RUNNING), (TaskState::Paused, PAUSED)];
                known.into_iter().find(|(known, _)| known.as_str() == state).map_or(AWAITING, |(_, says)| says)
            }
        }
    }

    /// What Synced says where nothing more particular is known.
    pub(super) fn sync(self) -> Says {
        match self.line().sync {
            Fixed(says) => says,
            Given(reason) => (reason, ""),
            LastState | OfConnection | OfRequest => AWAITING,
        }
    }
}

impl Line {
    /// Whether these conditions are the row's.
    fn says(&self, conditions: &[Condition]) -> bool {
        let status = |kind| find(conditions, kind).map(|condition| condition.status.as_str());
        let stalls = |kind: Option<&str>| kind == Some(STALLED);
        let is_by = |kind, cause| {
            let Some(condition) = find(conditions, kind) else { return false };
            match cause {
                Fixed((reason, _)) | Given(reason) => condition.reason == reason,
                LastState => true,
                OfConnection => Reason::of_word(&condition.reason).is_some(),
                OfRequest => Reason::of_word(&condition.reason).is_none(),
            }
        };
        [SUCCEEDED, FINISHED, SYNCED].map(status) == self.cells.map(Some)
            && is_by(SUCCEEDED, self.outcome)
            && is_by(SYNCED, self.sync)
            && [self.task, self.mirror].iter().any(|gate| stalls(gate.1) == (status(STALLED) == Some(TRUE)))
    }
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
    let line = row.line();
    let [outcome, finished, mirror] = line.cells;
    // Where the mirror is broken, that is what keeps the object from being ready; else it is the task.
    let cause = if mirror == FALSE { synced } else { succeeded };
    let observed = Remark { reason: OBSERVED.to_owned(), message: succeeded.message.clone() };
    let ((ready, beside), why) = match ready_when {
        ReadyWhen::TaskSucceeded => (line.task, cause),
        ReadyWhen::Observed if line.mirror.0 == TRUE => (line.mirror, &observed),
        ReadyWhen::Observed => (line.mirror, cause),
    };
    let said = [
        Some((SUCCEEDED, outcome, succeeded)),
        Some((FINISHED, finished, succeeded)),
        Some((SYNCED, mirror, synced)),
        Some((READY, ready, why)),
        beside.map(|kind| (kind, TRUE, cause)),
    ];
    conditions::build(said.into_iter().flatten(), old, generation, now)
}

/// Whether the status says that the watch is over.
#[must_use]
pub fn is_finished(status: &TaskWatchStatus) -> bool {
    find(&status.conditions, FINISHED).is_some_and(|condition| condition.status == TRUE)
}

/// Whether the status says of this generation that there are too many watches.
#[must_use]
pub fn tells_of_limit(status: &TaskWatchStatus, generation: i64) -> bool {
    status.observed_generation == Some(generation)
        && find(&status.conditions, SYNCED).is_some_and(|condition| condition.reason == Reason::LimitExceeded.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::FailureClass;

    /// The reasons that a condition of this cause may have.
    fn reasons(row: Row, cause: Cause) -> Vec<&'static str> {
        match cause {
            Fixed((reason, _)) | Given(reason) => vec![reason],
            LastState => vec![AWAITING.0, TASK_PENDING, TASK_RUNNING, TASK_PAUSED],
            OfConnection => {
                let of_row = |reason: &Reason| Row::without_connection(*reason) == row;
                Reason::ALL.into_iter().filter(of_row).map(Reason::as_str).collect()
            }
            OfRequest => FailureClass::ALL.into_iter().map(FailureClass::as_str).chain(["Stale"]).collect(),
        }
    }

    #[test]
    fn the_row_of_a_status_is_the_one_it_was_written_for() {
        let remark = |reason: &str| Remark { reason: reason.to_owned(), message: String::new() };
        for &row in Row::ALL {
            let (outcomes, syncs) = (reasons(row, row.line().outcome), reasons(row, row.line().sync));
            assert!(!outcomes.is_empty() && !syncs.is_empty(), "{row:?}");
            for (outcome, sync) in outcomes.iter().flat_map(|outcome| syncs.iter().map(move |sync| (outcome, sync))) {
                for ready_when in [ReadyWhen::TaskSucceeded, ReadyWhen::Observed] {
                    let said = (&remark(outcome), &remark(sync));
                    let conditions = of(row, ready_when, said, &[], 1, Timestamp::UNIX_EPOCH);
                    let status = TaskWatchStatus { conditions, ..TaskWatchStatus::default() };
                    assert_eq!(Row::of_status(&status), Some(row), "{ready_when:?}: {outcome}, {sync}");
                    assert_eq!(is_finished(&status), row.is_finished());
                }
            }
        }
    }

    #[test]
    fn a_status_of_somebody_else_is_of_no_row_but_an_end_is_an_end() {
        let by = |kind: &'static str, status| {
            let why = Remark { reason: "SomethingElse".to_owned(), message: String::new() };
            let conditions = conditions::build([(kind, status, &why)], &[], 1, Timestamp::UNIX_EPOCH);
            Row::of_status(&TaskWatchStatus { conditions, ..TaskWatchStatus::default() })
        };
        assert_eq!(Row::of_status(&TaskWatchStatus::default()), None);
        assert_eq!(by(SYNCED, TRUE), None);
        assert_eq!(by(FINISHED, FALSE), None);
        assert_eq!(by(FINISHED, TRUE), Some(Row::Failed));
    }
}
