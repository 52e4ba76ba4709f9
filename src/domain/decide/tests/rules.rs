//! The rules below the table of design §2, one test each.

use std::sync::LazyLock;

use super::{
    super::{Decision, Event, EventType, Poll},
    Connection, FailureClass, News, Reason, SignedDuration, TaskState, Timestamp, Unavailable, World, at, running,
    task,
};
use crate::api::{OnNotFound, ReadyWhen, WatchPoll};

static NO_SECRET: LazyLock<Connection> =
    LazyLock::new(|| Err(Unavailable::new(Reason::SecretNotFound, "Create the Secret s.")));

fn seen(state: TaskState) -> News {
    News::Seen(task(state))
}

fn trouble(since: i64) -> News {
    News::Trouble { class: FailureClass::UpstreamUnavailable, since: at(since) }
}

fn absent(since: i64) -> News {
    News::NotFound { since: at(since) }
}

fn reasons(decision: &Decision) -> Vec<&str> {
    decision.events.iter().map(|event| event.reason.as_str()).collect()
}

#[track_caller]
fn silent(decision: &Decision) {
    assert_eq!((&decision.status, decision.events.len(), decision.delete), (&None, 0, false));
}

#[test]
fn a_cold_start_costs_one_write() {
    let mut world = World::new();
    let first = world.then(0, News::None);
    silent(&first);
    assert_eq!((first.poll, first.wake_at), (Poll::Keep, Some(at(2))));
    assert_eq!(reasons(&world.then(1, running(3))), ["TaskObserved"]);
    silent(&world.then(2, running(3)));
    // Objects that are older than the operator wait just as long.
    let mut world = World::new();
    assert_eq!(world.restart(5000).wake_at, Some(at(5002)));
    assert!(world.then(5002, News::None).status.is_some());
}

#[test]
fn a_restart_writes_and_tells_nothing() {
    for news in [seen(TaskState::Pending), running(20), seen(TaskState::Failed), seen(TaskState::Succeeded), absent(1)]
    {
        let mut world = World::new();
        world.then(1, news.clone());
        silent(&world.restart(500));
        world.refreshed = false;
        silent(&world.then(501, if matches!(news, News::NotFound { .. }) { News::None } else { news }));
    }
}

#[test]
fn trouble_shows_after_half_a_minute_and_keeps_the_last_observation() {
    let mut world = World::new();
    world.then(1, running(20));
    let held = world.then(10, trouble(10));
    silent(&held);
    let shown = held.wake_at.unwrap();
    assert!(shown >= at(40) && shown <= at(46), "30 s and up to a fifth more");
    let told = world.then(46, trouble(10));
    assert_eq!(reasons(&told), ["UpstreamUnavailable"]);
    let status = world.status.clone().unwrap();
    assert_eq!(status.progress.unwrap().percent, Some(20));
    assert_eq!(status.last_observed_time.unwrap().0, at(1));
    // Another failure of the same sort, and a restart in between, say nothing new.
    silent(&world.then(50, News::Trouble { class: FailureClass::RateLimited, since: at(10) }));
    silent(&world.restart(60));
    silent(&world.then(61, trouble(61)));
    // Another sort does.
    assert_eq!(
        reasons(&world.then(70, News::Trouble { class: FailureClass::AuthenticationFailed, since: at(61) })),
        ["AuthenticationFailed"]
    );
    assert_eq!(reasons(&world.then(80, running(21))), ["MirrorRecovered"]);
    assert_eq!(world.shows("Synced"), "True/Observed");
}

#[test]
fn three_periods_may_be_longer_than_half_a_minute() {
    let mut world = World::new();
    world.then(1, running(20));
    world.settings.trouble = std::time::Duration::from_secs(5);
    let held = world.then(10, trouble(10)).wake_at.unwrap();
    assert!(held >= at(40) && held <= at(46), "3 periods of 10 s");
}

#[test]
fn staleness_counts_over_a_restart() {
    let mut world = World::new();
    world.then(1, running(20));
    world.then(100, trouble(10));
    world.restart(600);
    assert_eq!(world.then(601, trouble(601)).wake_at, Some(at(700)), "600 s from when the condition turned");
    assert_eq!(reasons(&world.then(700, trouble(601))), ["Stale"]);
    silent(&world.restart(710));
    silent(&world.then(711, trouble(711)));
    assert_eq!(world.shows("Stalled"), "True/Stale");
    assert_eq!(reasons(&world.then(720, running(20))), ["MirrorRecovered"]);
    assert_eq!(world.shows("Stalled"), "–");
}

#[test]
fn a_longer_stale_time_mends_a_stale_watch() {
    let mut world = World::new();
    world.then(1, running(20));
    world.then(700, trouble(10));
    world.spec.poll = Some(WatchPoll { stale_after_seconds: Some(5000), ..WatchPoll::default() });
    world.generation = 2;
    world.then(701, trouble(10));
    assert_eq!(world.shows("Reconciling"), "True/UpstreamUnavailable");
}

#[test]
fn the_grace_is_rebuilt_from_the_object() {
    let mut world = World::new();
    let first = world.then(1, absent(1));
    assert_eq!((world.state(), first.wake_at), ("Unknown", Some(at(61))));
    assert_eq!(world.status.as_ref().unwrap().not_found_since.as_ref().unwrap().0, at(1));
    silent(&world.restart(200));
    assert_eq!(world.shows("Synced"), "False/TaskNotFound", "no verdict without a fresh answer");
    assert_eq!(reasons(&world.then(201, absent(201))), ["TaskLost"]);
    assert_eq!(world.state(), "Lost");
    assert_eq!(world.status.as_ref().unwrap().last_observed_time.as_ref().unwrap().0, at(201), "seen to be gone");
}

#[test]
fn the_grace_is_time_that_passes_however_the_clock_is_stepped() {
    for step in [600, -600] {
        let mut world = World::new();
        world.asking_since = at(-1000);
        world.then(1, absent(1));
        world.step = SignedDuration::from_secs(step);
        assert_eq!(world.then(41 + step, absent(1 + step)).wake_at, Some(at(61 + step)));
        // The object remembers it by the present clock, should the operator be restarted.
        world.step = SignedDuration::ZERO;
        assert_eq!(world.status.as_ref().unwrap().not_found_since.as_ref().unwrap().0, at(1 + step));
        world.then(60 + step, absent(55 + step));
        assert_eq!(world.shows("Synced"), "False/TaskNotFound", "{step}");
        world.then(61 + step, absent(55 + step));
        assert_eq!(world.state(), "Lost", "{step}");
    }
}

#[test]
fn a_step_of_the_clock_is_taken_up_though_the_upstream_cannot_be_asked() {
    for (step, is_told) in [(600, true), (-600, true), (600, false), (-600, false)] {
        let news = |at: i64| if is_told { trouble(at) } else { News::None };
        let mut world = World::new();
        world.asking_since = at(-1000);
        world.then(1, absent(1));
        world.then(30, news(20));
        world.step = SignedDuration::from_secs(step);
        world.then(31 + step, news(20 + step));
        world.step = SignedDuration::ZERO;
        assert_eq!(world.status.as_ref().unwrap().not_found_since.as_ref().unwrap().0, at(1 + step));
        // The next process knows nothing of the step.
        silent(&world.restart(32 + step));
        silent(&world.then(60 + step, absent(60 + step)));
        world.then(61 + step, absent(60 + step));
        assert_eq!(world.state(), "Lost", "{step}");
    }
}

#[test]
fn seeing_the_task_ends_the_grace() {
    let mut world = World::new();
    world.then(1, absent(1));
    assert_eq!(reasons(&world.then(30, running(1))), ["TaskObserved"]);
    assert_eq!(world.status.as_ref().unwrap().not_found_since, None);
    assert_eq!(world.then(70, absent(70)).wake_at, Some(at(130)));
    // Trouble in between neither confirms nor denies.
    silent(&world.then(100, trouble(75)));
    assert_eq!(world.shows("Synced"), "False/TaskNotFound");
    world.then(130, absent(70));
    assert_eq!(world.state(), "Lost");
}

#[test]
fn what_not_found_means_is_for_the_watch_to_say() {
    for (policy, state, row) in [
        (OnNotFound::Fail, "Lost", "False/TaskNotFound"),
        (OnNotFound::Succeed, "Succeeded", "True/TaskGone"),
        (OnNotFound::Retry, "Running", "Unknown/TaskRunning"),
    ] {
        let mut world = World::new();
        world.spec.on_not_found = policy;
        world.then(1, running(40));
        world.then(10, absent(10));
        world.then(10_000, absent(10));
        assert_eq!((world.state(), world.shows("Succeeded").as_str()), (state, row));
    }
    let mut world = World::new();
    world.spec.not_found_grace_seconds = 0;
    world.then(1, absent(1));
    assert_eq!(world.state(), "Lost");
}

#[test]
fn an_end_is_an_end() {
    for state in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled] {
        let mut world = World::new();
        assert_eq!(world.then(1, seen(state)).poll, Poll::Stop);
        for news in [running(20), absent(1), trouble(1), News::None, seen(TaskState::Failed)] {
            let later = world.then(5000, news);
            silent(&later);
            assert_eq!(later.poll, Poll::Stop);
        }
        world.spec.suspend = true;
        world.connection = NO_SECRET.clone();
        silent(&world.then(6000, News::None));
    }
}

#[test]
fn a_finished_watch_looks_again_when_asked() {
    let mut world = World::new();
    world.then(1, seen(TaskState::Failed));
    world.requested_at = Some("now".into());
    let asked = world.then(10, News::None);
    silent(&asked);
    assert_eq!(asked.poll, Poll::Keep);
    silent(&world.then(11, running(20)));
    world.refreshed = true;
    assert_eq!(world.then(12, running(20)).poll, Poll::Keep);
    assert_eq!(world.state(), "Running");
    assert_eq!(world.status.as_ref().unwrap().last_handled_reconcile_at.as_deref(), Some("now"));
    // A look that fails is a look, too, and changes nothing else.
    let mut world = World::new();
    world.then(1, seen(TaskState::Succeeded));
    world.requested_at = Some("again".into());
    world.refreshed = true;
    assert_eq!(world.then(10, trouble(10)).poll, Poll::Stop);
    assert_eq!(world.shows("Ready"), "True/TaskSucceeded");
    assert_eq!(world.status.as_ref().unwrap().last_handled_reconcile_at.as_deref(), Some("again"));
    // So with an upstream that has forgotten the task.
    world.requested_at = Some("third".into());
    world.then(2000, absent(20));
    assert_eq!(world.shows("Ready"), "True/TaskSucceeded");
    // Nobody asks a suspended watch.
    world.requested_at = Some("fourth".into());
    world.refreshed = false;
    world.spec.suspend = true;
    assert_eq!(world.then(2001, News::None).poll, Poll::Stop);
}

#[test]
fn suspension_keeps_what_is_known_and_the_deadline() {
    let mut world = World::new();
    world.spec.active_deadline_seconds = Some(100);
    world.then(1, running(20));
    world.spec.suspend = true;
    world.generation = 2;
    let suspended = world.then(10, running(50));
    assert_eq!((suspended.poll, suspended.wake_at), (Poll::Stop, Some(at(100))));
    assert_eq!(world.status.as_ref().unwrap().progress.as_ref().unwrap().percent, Some(20));
    world.spec.suspend = false;
    world.generation = 3;
    world.asking_since = at(20);
    let resumed = world.then(20, News::None);
    silent(&resumed);
    assert_eq!((resumed.poll, resumed.wake_at), (Poll::Keep, Some(at(22))));
    world.spec.suspend = true;
    assert_eq!(reasons(&world.then(100, News::None)), ["DeadlineExceeded"]);
    assert_eq!((world.state(), world.shows("Finished").as_str()), ("Running", "True/DeadlineExceeded"));
}

#[test]
fn an_end_that_is_seen_wins_over_the_deadline() {
    let mut world = World::new();
    world.spec.active_deadline_seconds = Some(100);
    world.then(1, running(20));
    world.then(150, seen(TaskState::Succeeded));
    assert_eq!(world.shows("Ready"), "True/TaskSucceeded");
    // Asked to look again after the deadline, a running task stays out of time, a finished one is finished.
    let mut world = World::new();
    world.spec.active_deadline_seconds = Some(100);
    world.then(100, running(20));
    world.requested_at = Some("now".into());
    world.refreshed = true;
    world.then(200, running(90));
    assert_eq!(world.shows("Ready"), "False/DeadlineExceeded");
    assert_eq!(world.status.as_ref().unwrap().progress.as_ref().unwrap().percent, Some(90));
    world.requested_at = Some("later".into());
    world.then(300, seen(TaskState::Succeeded));
    assert_eq!(world.shows("Ready"), "True/TaskSucceeded");
}

#[test]
fn progress_alone_is_written_seldom() {
    let mut world = World::new();
    world.then(1, running(20));
    let held = world.then(10, running(30));
    silent(&held);
    assert_eq!(held.wake_at, Some(at(31)), "due when half a minute has passed");
    assert!(world.clone().then(31, running(30)).status.is_some(), "and written then, not later");
    let small = world.then(40, running(24));
    silent(&small);
    assert_eq!(small.wake_at, None, "a step of less than 5 points is not worth a write");
    assert!(world.then(41, running(25)).status.is_some());
    assert_eq!(world.status.as_ref().unwrap().last_observed_time.as_ref().unwrap().0, at(41));
    // Along with anything else it goes at once.
    let mut paused = task(TaskState::Paused);
    paused.percent = Some(26);
    world.then(46, News::Seen(paused));
    assert_eq!(world.status.as_ref().unwrap().progress.as_ref().unwrap().percent, Some(26));
}

#[test]
fn a_clock_that_was_ahead_holds_no_progress_up() {
    let mut world = World::new();
    world.then(1200, running(20));
    assert!(world.then(10, running(30)).status.is_some());
}

#[test]
fn a_time_that_moves_with_every_look_is_not_news() {
    let mut world = World::new();
    let mut beating = task(TaskState::Running);
    beating.modified_time = Some(at(1));
    world.then(1, News::Seen(beating.clone()));
    beating.modified_time = Some(at(500));
    silent(&world.then(500, News::Seen(beating)));
}

#[test]
fn transitions_move_only_with_the_status() {
    let mut world = World::new();
    world.then(1, running(20));
    world.then(50, trouble(10));
    let time = |world: &World, kind| world.condition(kind).map(|c| c.last_transition_time.0);
    assert_eq!(time(&world, "Ready"), Some(at(1)), "Unknown before and after");
    assert_eq!(time(&world, "Synced"), Some(at(50)));
    world.then(60, News::Trouble { class: FailureClass::PermissionDenied, since: at(10) });
    assert_eq!(time(&world, "Synced"), Some(at(50)));
    world.then(700, trouble(10));
    assert_eq!((time(&world, "Synced"), time(&world, "Ready")), (Some(at(50)), Some(at(700))));
}

#[test]
fn a_new_generation_is_acknowledged_without_a_look() {
    let mut world = World::new();
    world.then(1, seen(TaskState::Failed));
    assert_eq!(world.shows("Ready"), "False/TaskFailed");
    world.generation = 2;
    world.spec.ready_when = ReadyWhen::Observed;
    let edited = world.restart(100);
    assert!(edited.status.is_some() && edited.events.is_empty());
    assert_eq!((world.shows("Ready"), world.shows("Stalled")), ("True/Observed".into(), "–".into()));
    assert_eq!(world.condition("Ready").unwrap().message, "The volume quota is used up. (EVS.2024)");
    assert!(world.status.as_ref().unwrap().conditions.iter().all(|c| c.observed_generation == Some(2)));
}

#[test]
fn the_object_goes_when_its_time_is_over_unless_gitops_keeps_it() {
    let mut world = World::new();
    world.spec.ttl_seconds_after_finished = Some(100);
    assert_eq!(world.then(1, running(20)).wake_at, None);
    assert_eq!(world.then(10, seen(TaskState::Failed)).wake_at, Some(at(110)));
    assert!(world.then(110, News::None).delete);
    // Not with the write that shows the end.
    let mut world = World::new();
    world.spec.ttl_seconds_after_finished = Some(0);
    let end = world.then(10, seen(TaskState::Failed));
    assert_eq!((end.delete, end.wake_at), (false, Some(at(10))));
    assert!(world.then(10, News::None).delete);
    // Tracked: told once.
    let mut world = World::new();
    world.spec.ttl_seconds_after_finished = Some(100);
    world.tracked = true;
    let end = world.then(10, seen(TaskState::Failed));
    assert_eq!((reasons(&end), end.wake_at), (vec!["TaskFailed", "TTLSkipped"], None));
    silent(&world.then(200, News::None));
    world.allow_ttl = true;
    assert!(world.then(200, News::None).delete);
}

#[test]
fn what_is_missing_mends_itself() {
    for connection in [
        NO_SECRET.clone(),
        Err(Unavailable::new(Reason::ConnectionNotFound, "Create it.")),
        Err(Unavailable::new(Reason::ConnectionNotAllowed, "Have it allowed.")),
        Err(Unavailable::new(Reason::InvalidSpec, "Mend it.")),
    ] {
        let mut world = World::new();
        world.then(1, running(20));
        world.connection = connection.clone();
        assert_eq!(world.then(10, News::None).events.len(), 1);
        silent(&world.restart(20));
        world.connection = super::USABLE;
        world.asking_since = at(30);
        silent(&world.then(30, News::None));
        world.then(31, running(20));
        assert_eq!((world.shows("Synced").as_str(), world.state()), ("True/Observed", "Running"));
        // Where the first answer is trouble, the missing Secret is no longer blamed, and the patience begins anew.
        world.connection = connection;
        world.then(40, News::None);
        world.connection = super::USABLE;
        world.asking_since = at(2000);
        world.then(2002, trouble(2001));
        assert_eq!(world.shows("Synced"), "Unknown/AwaitingObservation");
        world.then(2060, trouble(2001));
        assert_eq!(world.shows("Synced"), "False/UpstreamUnavailable");
    }
}

#[test]
fn events_tell_transitions() {
    let mut world = World::new();
    let mut told = Vec::new();
    let mut tell = |decision: Decision| told.extend(decision.events);
    tell(world.then(1, seen(TaskState::Pending)));
    tell(world.then(10, running(1)));
    tell(world.then(20, seen(TaskState::Paused)));
    tell(world.then(30, running(50)));
    tell(world.then(40, running(51)));
    tell(world.then(50, seen(TaskState::Failed)));
    tell(world.then(60, seen(TaskState::Failed)));
    let told: Vec<_> = told.iter().map(|Event { kind, reason, .. }| (*kind, reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (EventType::Normal, "TaskObserved"),
            (EventType::Normal, "TaskRunning"),
            (EventType::Normal, "TaskPaused"),
            (EventType::Normal, "TaskRunning"),
            (EventType::Warning, "TaskFailed"),
        ]
    );
}

#[test]
fn times_are_written_in_whole_seconds() {
    let mut world = World::new();
    world.now = Timestamp::from_millisecond(at(1).as_millisecond() + 999).unwrap();
    world.news = running(1);
    let written = world.decide().status.unwrap();
    assert_eq!(written, super::stored(&written), "what is compared next time is what was stored");
}
