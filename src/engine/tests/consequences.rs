//! What one failure means for what is asked next: whom it is told, how long is waited, and what is asked to find out whose fault it was.

use std::time::Duration;

use tokio::time::Instant;

use super::rig::{MINUTE, SECOND, account, key, settings, task};
use crate::domain::{
    failure::{Failure, FailureClass},
    task::{Task, TaskState},
};
use crate::engine::{
    Report, Subscription,
    coalesce::{Mode, ModeChoice},
    planner::{JobKind, Outcome, Planner, Settings},
};
use crate::tenancy::Tenant;

struct Stage {
    planner: Planner,
    now: Instant,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { planner: Planner::new(settings, account(), now), now }
    }

    fn watch(&mut self, number: usize, period: Duration) {
        let wanted = Subscription {
            tenant: Tenant::shared(),
            task: task("s", number),
            period,
            max_period: period,
            age: Duration::ZERO,
            known: false,
            requested: false,
            ticket: 1,
        };
        self.planner.watch(key(number), &wanted, self.now);
    }

    /// Goes on to the next job, within so much time; what it is, and when it comes.
    fn next(&mut self, within: Duration) -> Option<(u64, JobKind, Duration)> {
        let begin = self.now;
        while self.now <= begin + within {
            if let Some(job) = self.planner.next(self.now) {
                return Some((job.id, job.kind, self.now - begin));
            }
            self.now += SECOND / 10;
        }
        None
    }

    /// The next job asks for this task; it is answered so.
    #[track_caller]
    fn answer(
        &mut self,
        number: usize,
        within: Duration,
        answer: Result<(), (FailureClass, Option<Duration>)>,
    ) -> Duration {
        let (id, kind, waited) = self.next(within).expect("a job");
        let asked = task("s", number);
        assert!(matches!(&kind, JobKind::Get(of) if **of == asked), "{kind:?} for {asked:?}");
        let (result, wait) = match answer {
            Ok(()) => (Ok(Task::new(asked.id, TaskState::Running, "running")), None),
            Err((class, wait)) => (Err(Failure::new(class, "no")), wait),
        };
        self.planner.done(id, Outcome::Task(result), 500, wait, self.now);
        waited
    }

    fn told(&mut self) -> Vec<(String, bool)> {
        let told = self.planner.take_deliveries();
        told.into_iter().map(|told| (told.key.to_string(), matches!(told.report, Report::Trouble { .. }))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_task_says_how_long_that_one_is_left_alone() {
    let mut stage = Stage::new(settings());
    stage.watch(0, 300 * SECOND);
    stage.answer(0, SECOND, Ok(()));
    stage.watch(1, 10 * SECOND);
    stage.answer(1, SECOND, Err((FailureClass::PermissionDenied, Some(MINUTE))));
    assert!(stage.next(59 * SECOND).is_none(), "nor anything else");
    stage.answer(1, 2 * SECOND, Err((FailureClass::PermissionDenied, None)));
    let waited = stage.answer(1, MINUTE, Ok(()));
    assert!(waited < 50 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_all_are_told_why() {
    let mut stage = Stage::new(Settings { exchanges: true, ..settings() });
    stage.watch(0, 10 * SECOND);
    stage.watch(1, 10 * SECOND);
    let (id, kind, _) = stage.next(SECOND).unwrap();
    assert_eq!(kind, JobKind::Authenticate);
    let failure = Failure::new(FailureClass::UpstreamUnavailable, "no");
    stage.planner.done(id, Outcome::Token(Err(failure)), 0, None, stage.now);
    assert_eq!(stage.told(), [("w0".to_owned(), true), ("w1".to_owned(), true)]);
    let (id, kind, waited) = stage.next(MINUTE).unwrap();
    assert!(kind == JobKind::Authenticate && waited >= SECOND, "{kind:?} {waited:?}");
    // Until the end of the silence nobody is told the same again.
    assert_eq!(stage.told(), []);
    stage.planner.done(id, Outcome::Token(Ok(None)), 0, None, stage.now);
    let (_, kind, _) = stage.next(SECOND).unwrap();
    assert!(matches!(kind, JobKind::Get(_)));
}

#[tokio::test(start_paused = true)]
async fn what_was_good_is_asked_whether_anybody_is_there() {
    let mut stage = Stage::new(settings());
    stage.watch(0, 300 * SECOND);
    stage.answer(0, SECOND, Ok(()));
    let mut failures = 0;
    for number in 1..9 {
        stage.watch(number, 300 * SECOND);
        let (id, kind, _) = stage.next(5 * SECOND).unwrap();
        if kind == JobKind::Get(task("s", 0).into()) {
            break;
        }
        failures += 1;
        let failure = Failure::new(FailureClass::UpstreamUnavailable, "no");
        stage.planner.done(id, Outcome::Task(Err(failure)), 0, None, stage.now);
    }
    assert_eq!(failures, 5, "what has never been good does not tell that nobody is there");
    assert!(stage.planner.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn tasks_with_large_answers_are_sooner_served_by_a_list() {
    let mut stage = Stage::new(Settings { mode: ModeChoice::Auto, ..settings() });
    (0..3).for_each(|number| stage.watch(number, 10 * SECOND));
    for (bytes, mode) in [(500, Mode::Get), (200_000, Mode::List)] {
        for _ in 0..3 {
            let (id, kind, _) = stage.next(MINUTE).unwrap();
            let JobKind::Get(of) = kind else { break };
            let found = Task::new(of.id.clone(), TaskState::Running, "running");
            stage.planner.done(id, Outcome::Task(Ok(found)), bytes, None, stage.now);
        }
        assert_eq!(stage.planner.mode(), Some(mode), "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_answer_is_not_awaited_any_more_is_asked_for_again_and_no_other_is() {
    let mut stage = Stage::new(Settings { exchanges: true, ..settings() });
    let next = |stage: &mut Stage| stage.next(5 * SECOND).map(|(id, kind, _)| (id, kind == JobKind::Authenticate));
    stage.watch(0, 300 * SECOND);
    assert!(matches!(next(&mut stage), Some((_, true))));
    stage.planner.abandon_all(stage.now);
    let Some((id, true)) = next(&mut stage) else { panic!("it is asked for again") };
    stage.planner.done(id, Outcome::Token(Ok(Some(40 * SECOND))), 0, None, stage.now);
    stage.answer(0, SECOND, Ok(()));
    stage.watch(1, 300 * SECOND);
    for _ in 0..2 {
        assert!(matches!(next(&mut stage), Some((_, false))), "there is one");
        stage.planner.abandon_all(stage.now);
    }
    assert!(matches!(next(&mut stage), Some((_, false))));
    // It is nearly over, and a task is on its way by it.
    stage.now += 31 * SECOND;
    stage.watch(2, 300 * SECOND);
    for _ in 0..2 {
        assert!(matches!(next(&mut stage), Some((_, true))));
        stage.planner.abandon_all(stage.now);
    }
}
