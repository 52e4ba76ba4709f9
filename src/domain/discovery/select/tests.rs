use proptest::prelude::*;

use super::*;
use crate::{api::TaskMatch, domain::task::Task};

const HOUR: i64 = 3600;
/// The present of these tests.
const NOW: i64 = 100_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A task that was made so long ago, and ended (where it has) half that time ago.
fn task(id: &str, state: TaskState, age: i64) -> Candidate {
    Candidate {
        created: Some(at(NOW - age)),
        started: Some(at(NOW - age + 1)),
        ended: state.is_finished().then(|| at(NOW - age / 2)),
        ..Candidate::of(&Task::new(id, state, "word"))
    }
}

fn running(id: &str, age: i64) -> Candidate {
    task(id, TaskState::Running, age)
}

fn catalogue(tasks: impl IntoIterator<Item = Candidate>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    tasks.into_iter().for_each(|task| catalogue.put(task));
    catalogue
}

fn child(id: &str) -> Child<'_> {
    Child { id, is_finished: false, ended: None }
}

/// A child that says that its task ended so long ago.
fn finished(id: &str, age: i64) -> Child<'_> {
    Child { id, is_finished: true, ended: Some(at(NOW - age)) }
}

fn ids(tasks: &[Arc<Candidate>]) -> Vec<&str> {
    tasks.iter().map(|task| &*task.id).collect()
}

fn filter(states: &[&str]) -> Filter {
    let states = states.iter().map(|state| (*state).to_owned()).collect();
    Filter::new(&TaskMatch { states, ..TaskMatch::default() })
}

/// With a limit of two and a retention of an hour.
fn chosen(tasks: &Catalogue, children: &[Child<'_>], filter: &Filter) -> Selection {
    let wanted = Wanted { limit: 2, retention: SignedDuration::from_secs(HOUR), filter };
    select(tasks, children, &wanted, at(NOW))
}

#[test]
fn the_newest_are_watched_and_the_rest_is_counted() {
    let mut tasks = catalogue([
        running("old", 300),
        running("new", 100),
        task("failed", TaskState::Failed, 200),
        Candidate { created: None, started: None, ..running("unknown", 0) },
        task("long-gone", TaskState::Succeeded, 3 * HOUR),
    ]);
    tasks.set_unkept(7);
    let selection = chosen(&tasks, &[], &Filter::default());
    assert_eq!(ids(&selection.chosen), ["unknown", "new"], "one whose time is not known is new");
    assert_eq!(ids(&selection.create), ids(&selection.chosen));
    assert_eq!((selection.matched, selection.left_out, selection.unkept), (4, 2 + 7, 7));
    assert_eq!(selection.states, [(TaskState::Running, 3), (TaskState::Failed, 1)].into());
    assert_eq!(selection.oldest_running, Some(at(NOW - 300 + 1)));
    assert_eq!(ids(&selection.newest), ["failed", "unknown", "new", "old"], "failed ones, then running ones");
    assert_eq!(selection.next, Some(at(NOW - 100 + HOUR)), "the failed one ended 100 s ago");
    assert_eq!(selection.delete, [""; 0]);
}

#[test]
fn of_the_same_time_the_identifiers_decide() {
    let tasks = catalogue(["c", "a", "d", "b"].map(|id| running(id, 5)));
    assert_eq!(ids(&chosen(&tasks, &[], &Filter::default()).chosen), ["a", "b"]);
}

#[test]
fn twenty_are_named() {
    let tasks = catalogue((0..30).map(|n| task(&n.to_string(), TaskState::Pending, n)));
    let newest = chosen(&tasks, &[], &Filter::default()).newest;
    assert_eq!((newest.len(), &*newest[0].id, &*newest[19].id), (20, "0", "19"));
}

/// What becomes of a child, by its task and by what it says itself.
#[test]
fn a_child_goes_when_it_is_not_wanted_and_its_end_was_shown() {
    let running_only = filter(&["Running"]);
    let any = Filter::default();
    let of = |state, age| Some(task("x", state, age));
    let (done, failed, runs) = (TaskState::Succeeded, TaskState::Failed, TaskState::Running);
    // The filter, the task as the list shows it, the child, whether the child is deleted.
    for (what, filter, shown, child, goes) in [
        ("it runs and is among the newest", &any, of(runs, 5), child("x"), false),
        ("it runs and is beyond the limit", &any, of(runs, 500), child("x"), true),
        ("it runs and no longer matches", &filter(&["Paused"]), of(runs, 5), child("x"), true),
        ("it has ended, which is not shown yet", &running_only, of(done, 500), child("x"), false),
        ("it ended long ago, which is not shown yet", &any, of(done, 4 * HOUR), child("x"), false),
        ("it has ended lately", &running_only, of(failed, 500), finished("x", 250), false),
        ("it has ended lately, beyond the limit", &any, of(failed, 500), finished("x", 250), false),
        ("it ended long ago", &any, of(done, 4 * HOUR), finished("x", 2 * HOUR), true),
        ("just now it is an hour", &any, of(done, 2 * HOUR), finished("x", HOUR), true),
        ("the list does not show it", &any, None, child("x"), false),
        ("the list no longer shows what has ended", &any, None, finished("x", 250), false),
        ("the list no longer shows what ended long ago", &any, None, finished("x", HOUR), true),
        // The deadline of the child is over, or it is Lost, and the task is there: what would go would come again.
        ("the child is done with it, and it goes on", &any, of(runs, 5), finished("x", 9 * HOUR), false),
        ("as before, beyond the limit", &any, of(runs, 500), finished("x", 9 * HOUR), true),
    ] {
        let tasks = catalogue(shown.into_iter().chain([running("a", 100), running("b", 100)]));
        let selection = chosen(&tasks, &[child, self::child("a"), self::child("b")], filter);
        assert_eq!(selection.delete.contains(&"x".to_owned()), goes, "{what}");
        assert!(!ids(&selection.create).contains(&"x"), "{what}");
    }
}

#[test]
fn a_child_that_no_longer_matches_goes_though_its_task_has_just_ended() {
    let wanted = TaskMatch { created_by: Some("me".into()), ..TaskMatch::default() };
    let tasks = catalogue([task("x", TaskState::Succeeded, 100)]);
    let selection = chosen(&tasks, &[finished("x", 50)], &Filter::new(&wanted));
    assert_eq!((selection.delete.as_slice(), selection.matched), (["x".to_owned()].as_slice(), 0));
}

#[test]
fn a_task_that_ended_before_anybody_watched_it_is_watched_for_the_retention() {
    let unknown = Candidate { created: None, ended: None, ..task("unknown", TaskState::Failed, 0) };
    let tasks = catalogue([task("late", TaskState::Failed, HOUR), task("past", TaskState::Failed, 2 * HOUR), unknown]);
    assert_eq!(ids(&chosen(&tasks, &[], &Filter::default()).create), ["unknown", "late"]);
}

#[test]
fn nothing_runs_out_where_nothing_ends() {
    let selection = chosen(&catalogue([running("a", 1)]), &[child("gone")], &Filter::default());
    assert_eq!((selection.next, selection.delete.len()), (None, 0));
}

fn a_time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::weighted(0.9, (-400..100_i64).prop_map(|second| at(NOW + second)))
}

fn a_task() -> impl Strategy<Value = Candidate> {
    let id = (0..40_u8).prop_map(|n| n.to_string());
    (id, 0..6_usize, a_time(), a_time(), any::<bool>()).prop_map(|(id, state, created, ended, is_mine)| Candidate {
        created,
        ended: ended.filter(|_| TaskState::ALL[state].is_finished()),
        created_by: is_mine.then(|| "me".into()),
        ..task(&id, TaskState::ALL[state], 0)
    })
}

/// A child as it is kept between two selections.
type Kept = (String, bool, Option<Timestamp>);

fn a_child() -> impl Strategy<Value = Kept> {
    (0..50_u8, any::<bool>(), a_time()).prop_map(|(n, done, ended)| (n.to_string(), done, ended.filter(|_| done)))
}

fn a_filter() -> impl Strategy<Value = TaskMatch> {
    let states = prop::collection::vec((0..6_usize).prop_map(|n| TaskState::ALL[n].as_str().to_owned()), 0..4);
    (states, any::<bool>(), prop::option::of(1..500_i32)).prop_map(|(states, mine, newer)| TaskMatch {
        states,
        created_by: mine.then(|| "me".into()),
        newer_than_seconds: newer,
        ..TaskMatch::default()
    })
}

fn views(children: &[Kept]) -> Vec<Child<'_>> {
    children.iter().map(|(id, is_finished, ended)| Child { id, is_finished: *is_finished, ended: *ended }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_selection(
        tasks in prop::collection::vec(a_task(), 0..40),
        mut children in prop::collection::vec(a_child(), 0..40),
        matches in a_filter(),
        limit in 1..12_usize,
        retention in 0..500_i64,
        unkept in 0..3_usize,
        share in 0.0..1.0_f64,
    ) {
        children.sort();
        children.dedup_by(|a, b| a.0 == b.0);
        let mut tasks = catalogue(tasks);
        tasks.set_unkept(unkept);
        let filter = Filter::new(&matches);
        let wanted = Wanted { limit, retention: SignedDuration::from_secs(retention), filter: &filter };
        let selection = select(&tasks, &views(&children), &wanted, at(NOW));
        let Selection { matched, left_out, states, newest, chosen, create, delete, next, .. } = &selection;

        // The counts are of the same tasks.
        prop_assert!(chosen.len() == limit.min(*matched) && newest.len() == NEWEST_TASKS.min(*matched));
        prop_assert_eq!(*left_out, matched - chosen.len() + unkept);
        prop_assert_eq!(states.values().sum::<usize>(), *matched);
        prop_assert!(chosen.iter().chain(newest).all(|task| filter.admits(task, at(NOW))));
        prop_assert!(chosen.is_sorted_by(|a, b| newer_first(a, b) == Ordering::Less), "in order, and each once");

        // What is done to children.
        let of = |id: &str| children.iter().find(|child| child.0 == id);
        prop_assert!(delete.iter().all(|id| of(id).is_some()), "only what is there goes");
        prop_assert!(create.iter().all(|task| of(&task.id).is_none()), "only what is not there comes");
        prop_assert!(chosen.iter().all(|task| !delete.iter().any(|id| **id == *task.id)), "nothing comes and goes");
        for id in delete {
            let (_, is_finished, _) = of(id).unwrap();
            prop_assert!(*is_finished || tasks.get(id).is_some(), "a task that is not shown is not gone");
        }

        // Nothing changes by itself before the time that is named.
        let until = next.map_or(10_000_000, |next| next.as_second() - NOW);
        prop_assert!(until > 0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let some = ((until as f64 * share) as i64).min(until - 1);
        prop_assert_eq!(&select(&tasks, &views(&children), &wanted, at(NOW + some)), &selection, "by itself");

        // Once that is done, there is nothing left to do.
        children.retain(|child| !delete.contains(&child.0));
        children.extend(create.iter().map(|task| (task.id.to_string(), false, None)));
        let again = select(&tasks, &views(&children), &wanted, at(NOW));
        prop_assert_eq!((again.create.len(), again.delete.len()), (0, 0), "again");

        // Nor when the children have seen what the list shows.
        for (id, is_finished, ended) in &mut children {
            if let Some(task) = tasks.get(id).filter(|task| task.state.is_finished() && !*is_finished) {
                (*is_finished, *ended) = (true, task.ended.or(Some(at(NOW))));
            }
        }
        let later = select(&tasks, &views(&children), &wanted, at(NOW));
        prop_assert!(later.create.is_empty(), "what has been watched to its end is not watched again");
        children.retain(|child| !later.delete.contains(&child.0));
        let last = select(&tasks, &views(&children), &wanted, at(NOW));
        prop_assert_eq!((last.create.len(), last.delete.len()), (0, 0), "at last");
    }
}
