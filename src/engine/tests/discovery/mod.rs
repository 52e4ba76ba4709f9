//! Those who discover the tasks of a scope: from the list that serves the watches, and from no other request.

mod connection;
mod handover;
mod random;
mod stage;

use self::stage::{Fault, Item, Stage, auto, id, item, table};
use super::rig::{MINUTE, SECOND, key};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{
    Found, Report,
    coalesce::{Mode, ModeChoice},
    planner::{JobKind, Settings},
};
use crate::tenancy::{
    Tenant,
    pool::{Account, Pool},
};

#[test]
fn one_list_a_period_serves_twenty_tasks_and_three_discoverers() {
    let mut stage = Stage::new(auto(), 100);
    for (number, period) in [10, 15, 20].into_iter().enumerate() {
        stage.discover(number, period * SECOND);
        stage.run(SECOND);
    }
    for number in 0..20 {
        stage.watch(number, false);
    }
    assert!((0..20).all(|number| stage.versions(number) == [0]));
    stage.run(10 * MINUTE);
    assert_eq!(stage.gets(), 0);
    // Jitter is 8 % either way.
    assert!((55..=66).contains(&stage.lists()), "{}", stage.lists());
    assert_eq!(stage.asked.len(), stage.lists());
    assert!(stage.found.is_empty() && stage.told.is_empty(), "nobody is told what is as it was");
    // No task waits for the list any more, and it is asked for all the same.
    (0..20).for_each(|number| stage.planner.forget(&key(number)));
    stage.run(MINUTE);
    assert_eq!(stage.lists(), 6);
}

#[test]
fn a_newcomer_is_told_what_is_known_without_a_request() {
    let mut stage = Stage::discovered(10);
    stage.run(7 * SECOND);
    stage.discover(1, 10 * SECOND);
    assert_eq!(table(stage.listed(1)), stage.shown);
    stage.go_on(SECOND);
    assert!(stage.asked.is_empty(), "{:?}", stage.asked);
    // What it asks for again, or asks for more rarely, is no news.
    stage.discover(1, 10 * SECOND);
    stage.discover(1, 30 * SECOND);
    assert_eq!(stage.found.len(), 1);
    // A new ticket asks for a list that is not older than the shortest period.
    stage.run(5 * SECOND / 2);
    let lists = stage.lists();
    stage.discover_as(1, 30 * SECOND, 2);
    assert_eq!(stage.found.last().unwrap().ticket, 2, "known since less than 5 s");
    stage.go_on(SECOND);
    assert_eq!(stage.lists(), lists);
    stage.run(5 * SECOND);
    stage.discover_as(1, 30 * SECOND, 3);
    assert!(stage.found.is_empty());
    stage.go_on(SECOND / 10);
    assert_eq!((stage.lists(), stage.found.len()), (1, 1), "the list is older than that");
}

#[test]
fn a_shorter_period_counts_at_once() {
    // That of another one, or of the same.
    for who in [1, 0] {
        let mut stage = Stage::new(auto(), 10);
        stage.discover(0, 200 * SECOND);
        stage.run(20 * SECOND);
        stage.discover(who, 10 * SECOND);
        stage.run(MINUTE);
        assert!((5..=8).contains(&stage.lists()), "{who}: {}", stage.lists());
    }
}

#[test]
fn the_first_report_of_a_new_watch_comes_from_the_list_without_a_get() {
    let mut stage = Stage::discovered(50);
    let listed = stage.now;
    stage.run(3 * SECOND);
    (0..50).for_each(|number| stage.watch(number, false));
    assert!((0..50).all(|number| stage.versions(number) == [0]));
    let ats = stage.told.iter().map(|delivery| match &delivery.report {
        Report::Seen { at, .. } => *at,
        other => panic!("{other:?}"),
    });
    assert!(ats.into_iter().all(|at| at <= listed), "the time of the list, not of the watch");
    stage.go_on(MINUTE);
    assert_eq!((stage.gets(), stage.told.len()), (0, 50));
    assert!(stage.decoded.is_empty(), "what was shown before need not be read again: {:?}", stage.decoded);
    stage.shown.insert(id(7), item(1));
    stage.run(11 * SECOND);
    assert_eq!((stage.versions(7), stage.decoded.len(), stage.gets()), (vec![1], 1, 0));
    // Another object that watches the same task is told the same.
    stage.run(SECOND);
    stage.shown.insert(id(60), Item { state: TaskState::Failed, ..item(3) });
    stage.run(11 * SECOND);
    stage.watch(60, false);
    assert_eq!(stage.versions(60), [3]);
    stage.run(MINUTE);
    assert_eq!((stage.gets(), stage.told.len()), (0, 0), "it is finished, and costs nothing");
    assert!(stage.decoded.is_empty());
}

#[test]
fn who_asks_to_look_now_is_not_told_what_was_shown_before() {
    let mut stage = Stage::discovered(5);
    stage.run(SECOND);
    stage.watch(0, true);
    assert!(stage.told.is_empty());
    stage.go_on(SECOND);
    assert_eq!((stage.gets(), stage.versions(0)), (1, vec![0]));
}

#[test]
fn what_was_shown_long_ago_is_asked_for() {
    let mut stage = Stage::discovered(5);
    stage.run(3 * MINUTE);
    stage.watch(0, false);
    assert!(stage.told.is_empty());
    stage.go_on(SECOND);
    assert_eq!(stage.versions(0), [0]);
}

#[test]
fn a_watch_that_comes_while_a_list_is_read_is_neither_missed_nor_asked_for() {
    // A page a second: the list of five pages is being read when they come.
    let settings = Settings { requests_per_second: 1.0, burst: 1, ..auto() };
    let mut stage = Stage::new(settings, 50);
    stage.page_size = 10;
    stage.discover(0, 20 * SECOND);
    stage.run(10 * SECOND);
    stage.clear();
    while stage.lists() == 0 {
        stage.go_on(SECOND / 10);
    }
    stage.go_on(5 * SECOND / 2);
    assert_eq!(stage.asked.len(), 3, "three pages of the second list have been passed over: {:?}", stage.asked);
    stage.shown.insert(id(45), item(1));
    for number in 0..50 {
        stage.watch(number, false);
    }
    assert_eq!(stage.told.len(), 50);
    stage.go_on(MINUTE);
    assert_eq!(stage.gets(), 0, "{:?}", stage.asked);
    assert_eq!((stage.told.len(), stage.versions(45)), (51, vec![0, 1]), "the rest of the list is for them, too");
}

#[test]
fn a_task_is_shown_with_its_parts() {
    let mut stage = Stage::new(auto(), 5);
    stage.shown.insert("t00001-part".to_owned(), Item { parent: Some(id(1)), ..item(0) });
    stage.discover(0, 10 * SECOND);
    stage.run(3 * SECOND);
    stage.watch(1, false);
    let parts = |stage: &Stage| match &stage.told.last().unwrap().report {
        Report::Seen { task, .. } => task.subtasks.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((stage.told.len(), parts(&stage)), (1, 1));
    stage.run(30 * SECOND);
    assert_eq!((stage.told.len(), stage.gets()), (0, 0));
    // Its part was not decoded of late: it is not shown without.
    stage.run(3 * MINUTE);
    stage.planner.forget(&key(1));
    stage.shown.insert(id(1), item(1));
    stage.run(12 * SECOND);
    stage.watch(1, false);
    stage.go_on(12 * SECOND);
    assert_eq!(parts(&stage), 1, "{:?}", stage.told);
}

#[test]
fn a_part_that_a_list_shows_twice_is_believed_the_first_time() {
    // A page a second: a task that is created meanwhile moves the part of a task that is watched to the next page.
    let settings = Settings { requests_per_second: 1.0, burst: 1, ..auto() };
    let mut stage = Stage::new(settings, 30);
    stage.page_size = 10;
    stage.shown.remove(&id(0));
    stage.shown.insert(id(10), Item { parent: Some(id(5)), ..item(1) });
    stage.discover(0, 20 * SECOND);
    stage.watch(5, false);
    stage.run(10 * SECOND);
    stage.clear();
    while stage.lists() == 0 {
        stage.go_on(SECOND / 10);
    }
    stage.shown.insert(id(0), item(0));
    stage.shown.insert(id(10), Item { parent: Some(id(5)), ..item(2) });
    stage.decoded.clear();
    stage.go_on(10 * SECOND);
    assert!(stage.decoded.contains(&id(10)), "it was shown again: {:?}", stage.decoded);
    assert_eq!(table(stage.listed(0))[&id(10)].version, 1);
    stage.run(20 * SECOND);
    assert_eq!(table(stage.listed(0))[&id(10)].version, 2);
}

#[test]
fn only_a_whole_list_removes_what_it_does_not_show() {
    for fault in [
        Fault::LaterFails(FailureClass::UpstreamUnavailable),
        Fault::LaterFails(FailureClass::InvalidAnswer),
        Fault::LaterFails(FailureClass::InvalidRequest),
        Fault::Endless,
        Fault::Empty,
    ] {
        let mut stage = Stage::new(auto(), 20);
        stage.page_size = 10;
        stage.discover(0, 10 * SECOND);
        stage.run(SECOND);
        let before = stage.shown.clone();
        // One of each page vanishes, one of the first changes, one comes.
        stage.shown.remove(&id(3));
        stage.shown.remove(&id(13));
        stage.shown.insert(id(5), item(5));
        stage.shown.insert("a".to_owned(), item(0));
        stage.fault = Some(fault);
        stage.run(2 * MINUTE);
        assert!(stage.lists() >= 3, "{fault:?}");
        assert_eq!(stage.troubles().len(), 1, "{fault:?}: {:?}", stage.found);
        assert_eq!(stage.found.len(), 1, "{fault:?}: no catalogue is told of: {:?}", stage.found);
        stage.fault = None;
        // Who comes now is told of the trouble, and not of half a catalogue.
        stage.discover(1, 10 * SECOND);
        assert!(matches!(stage.last[&1], Found::Trouble { .. }), "{fault:?}");
        stage.run(11 * MINUTE);
        assert_eq!(table(stage.listed(0)), stage.shown, "{fault:?}");
        assert_eq!(table(stage.listed(1)), stage.shown, "{fault:?}");
        assert_ne!(before, stage.shown);
        assert!(stage.troubles().is_empty() && stage.found.len() == 2, "{fault:?}: {:?}", stage.found);
    }
}

#[test]
fn what_other_lists_add_is_told_with_the_next_whole_one() {
    let mut stage = Stage::new(auto(), 20);
    stage.page_size = 10;
    stage.fault = Some(Fault::LaterFails(FailureClass::InvalidAnswer));
    stage.discover(0, 10 * SECOND);
    stage.run(SECOND);
    assert!(matches!(stage.last[&0], Found::Trouble { .. }), "{:?}", stage.last);
    stage.fault = None;
    stage.run(MINUTE);
    let twice = stage.decoded.iter().filter(|decoded| **decoded < id(10)).count();
    assert_eq!((stage.found.len(), twice), (1, 0), "what the first list had shown is not read again");
}

#[test]
fn an_abandoned_list_removes_nothing_and_a_renewed_credential_lists_anew() {
    let settings = Settings { requests_per_second: 1.0, burst: 1, ..auto() };
    let mut stage = Stage::new(settings, 40);
    stage.page_size = 10;
    stage.discover(0, 60 * SECOND);
    stage.run(20 * SECOND);
    stage.clear();
    while stage.lists() == 0 {
        stage.go_on(SECOND / 10);
    }
    stage.go_on(SECOND);
    assert_eq!(stage.asked.len(), 2, "two of four pages: {:?}", stage.asked);
    stage.shown.remove(&id(0));
    stage.reconfigure(stage.settings.clone(), true);
    assert!(stage.found.is_empty());
    // What is known was asked for with the old credential.
    stage.discover(1, 60 * SECOND);
    assert!(stage.found.is_empty());
    stage.run(10 * SECOND);
    assert_eq!(stage.lists(), 1, "{:?}", stage.asked);
    assert_eq!((table(stage.listed(0)), table(stage.listed(1))), (stage.shown.clone(), stage.shown.clone()));
}

#[test]
fn what_was_left_for_want_of_room_keeps_the_list_from_being_whole() {
    let mut stage = Stage::discovered(20);
    (0..20).for_each(|number| stage.watch(number, false));
    stage.room = 0;
    stage.shown.values_mut().for_each(|item| item.version += 1);
    stage.shown.remove(&id(3));
    stage.run(MINUTE);
    assert!(stage.found.is_empty() && stage.lists() > 5, "{:?}", stage.found);
    stage.room = 1000;
    stage.run(15 * SECOND);
    assert_eq!(table(stage.listed(0)), stage.shown);
    assert!((0..20).filter(|number| *number != 3).all(|number| stage.versions(number) == [1]));
}

#[test]
fn who_comes_while_a_list_is_read_is_told_of_the_next() {
    let settings = Settings { requests_per_second: 1.0, burst: 1, mode: ModeChoice::List, ..auto() };
    let mut stage = Stage::new(settings, 50);
    stage.page_size = 10;
    (0..20).for_each(|number| stage.watch(number, false));
    stage.run(40 * SECOND);
    stage.clear();
    while stage.lists() == 0 {
        stage.go_on(SECOND / 10);
    }
    stage.go_on(2 * SECOND);
    stage.discover(0, 100 * SECOND);
    stage.go_on(15 * SECOND);
    assert_eq!(table(stage.listed(0)), stage.shown, "and soon");
    assert_eq!(stage.found.len(), 1);
}

#[test]
fn an_entry_that_changes_is_read_again_and_a_list_that_is_known_is_not() {
    let mut stage = Stage::discovered(100);
    stage.run(MINUTE);
    assert!(stage.lists() >= 5 && stage.decoded.is_empty() && stage.found.is_empty());
    stage.shown.insert(id(42), item(7));
    stage.run(11 * SECOND);
    assert_eq!((stage.decoded.clone(), stage.found.len()), (vec![id(42)], 1));
    // Back to what it was: by a print that was known once.
    stage.shown.insert(id(42), item(0));
    stage.run(11 * SECOND);
    assert_eq!((stage.decoded.clone(), stage.found.len()), (vec![id(42)], 1));
    assert_eq!(table(stage.listed(0)), stage.shown);
    stage.shown.remove(&id(42));
    stage.run(11 * SECOND);
    assert_eq!((stage.decoded.len(), table(stage.listed(0)).len()), (0, 99));
}

#[test]
fn finished_tasks_that_are_watched_are_not_read_again() {
    let mut stage = Stage::new(auto(), 20);
    stage.shown.values_mut().for_each(|item| item.state = TaskState::Succeeded);
    stage.discover(0, 10 * SECOND);
    stage.run(SECOND);
    (0..20).for_each(|number| stage.watch(number, false));
    assert_eq!(stage.told.len(), 20);
    stage.run(MINUTE);
    assert!(stage.decoded.is_empty() && stage.lists() >= 5);
}

#[test]
fn an_upstream_that_does_not_list_is_not_asked() {
    let mut stage = Stage::new(Settings { lists: false, ..auto() }, 5);
    stage.discover(0, 10 * SECOND);
    assert_eq!(stage.last[&0], Found::Unsupported);
    stage.watch(0, false);
    stage.run(MINUTE);
    assert_eq!((stage.lists(), stage.found.len(), stage.planner.mode()), (0, 0, Some(Mode::Get)));
    stage.planner.forget(&key(0));
    assert_eq!(stage.planner.mode(), None);
    // The connection leads elsewhere.
    stage.reconfigure(auto(), true);
    stage.run(SECOND);
    assert_eq!(table(stage.listed(0)), stage.shown);
    stage.reconfigure(Settings { lists: false, ..auto() }, true);
    assert_eq!(stage.last[&0], Found::Unsupported);
    stage.run(MINUTE);
    assert!(stage.asked.is_empty());
}

#[test]
fn a_trouble_is_told_once_for_each_class_and_ends_with_a_whole_list() {
    let mut stage = Stage::discovered(5);
    for class in [FailureClass::InvalidAnswer, FailureClass::PermissionDenied, FailureClass::UpstreamUnavailable] {
        stage.fault = Some(Fault::Fails(class));
        stage.run(10 * MINUTE);
        assert_eq!(stage.troubles(), [class]);
        assert_eq!(stage.found.len(), 1);
    }
    stage.fault = None;
    stage.run(10 * MINUTE);
    assert_eq!((stage.found.len(), table(stage.listed(0))), (1, stage.shown.clone()), "though nothing has changed");
}

#[test]
fn who_comes_to_a_silent_connection_is_told_why() {
    let mut stage = Stage::discovered(5);
    stage.fault = Some(Fault::Fails(FailureClass::RateLimited));
    stage.run(15 * SECOND);
    assert_eq!(stage.troubles(), [FailureClass::RateLimited]);
    stage.clear();
    stage.discover(1, 10 * SECOND);
    assert_eq!(stage.troubles(), [FailureClass::RateLimited]);
    assert!(stage.asked.is_empty());
}

#[test]
fn tasks_are_polled_one_by_one_where_the_list_is_unusable_and_it_is_tried_more_and_more_rarely() {
    let mut stage = Stage::discovered(10);
    (0..3).for_each(|number| stage.watch(number, false));
    assert_eq!(stage.planner.mode(), Some(Mode::List));
    stage.fault = Some(Fault::Fails(FailureClass::PermissionDenied));
    stage.run(MINUTE);
    assert_eq!(stage.planner.mode(), Some(Mode::Get));
    stage.run(20 * MINUTE);
    assert!((4..=9).contains(&stage.lists()), "up to five minutes: {}", stage.lists());
    assert!(stage.gets() > 200);
    stage.fault = None;
    stage.run(6 * MINUTE);
    assert_eq!(stage.planner.mode(), Some(Mode::List));
    stage.run(MINUTE);
    assert_eq!(stage.gets(), 0);
    assert!(matches!(stage.last[&0], Found::Listed { .. }));
}

#[test]
fn where_tasks_are_to_be_polled_one_by_one_the_list_is_for_the_discoverers_only() {
    let mut stage = Stage::new(Settings { mode: ModeChoice::Get, ..auto() }, 10);
    stage.watch(0, false);
    stage.discover(0, 10 * SECOND);
    stage.run(5 * MINUTE);
    assert!((27..33).contains(&stage.lists()) && (27..33).contains(&stage.gets()), "{:?}", stage.asked.len());
    assert!(stage.decoded.len() <= 10);
    // The watch is told by its own request.
    stage.shown.insert(id(0), item(1));
    let is_get = |kind: &JobKind| matches!(kind, JobKind::Get(_));
    stage.clear();
    while stage.told.is_empty() {
        stage.go_on(SECOND / 10);
    }
    assert!(is_get(&stage.asked.last().unwrap().1));
    stage.forget_discoverer(0);
    stage.run(MINUTE);
    assert_eq!(stage.lists(), 0);
}

#[test]
fn what_there_is_no_room_for_is_counted_and_the_list_is_whole_all_the_same() {
    let room = || Account { pool: Pool::new(256 << 10, 0), tenant: Tenant::shared() };
    let mut stage = Stage::with_room(auto(), 2000, room());
    (stage.page_size, stage.room) = (300, 100);
    stage.discover(0, 10 * SECOND);
    stage.run(5 * SECOND);
    let (kept, unkept) = (stage.listed(0).len(), stage.listed(0).unkept());
    assert!(kept > 100 && unkept > 1000 && kept + unkept == 2000, "{kept} {unkept}");
    assert!(stage.decoded.len() < kept + 50, "what finds no room is not decoded: {}", stage.decoded.len());
    stage.run(MINUTE);
    assert!(stage.found.is_empty(), "the same each time");
    // Others go, and there is room.
    stage.shown = stage.shown.split_off(&id(1900));
    stage.run(25 * SECOND);
    let listed = stage.listed(0);
    assert_eq!((listed.len(), listed.unkept()), (100, 0));
    // Those that are kept grow until some of them have to go.
    let parent = "p".repeat(4000);
    stage.shown.values_mut().for_each(|item| item.parent = Some(parent.clone()));
    stage.run(25 * SECOND);
    let listed = stage.listed(0);
    assert!(listed.unkept() > 0 && listed.len() + listed.unkept() == 100, "{} {}", listed.len(), listed.unkept());
}

#[test]
fn what_is_kept_is_given_back_with_the_last_discoverer() {
    let pool = Pool::new(64 << 20, 0);
    let account = Account { pool: pool.clone(), tenant: Tenant::shared() };
    let mut stage = Stage::with_room(auto(), 1000, account);
    stage.watch(0, false);
    stage.run(MINUTE);
    assert_eq!(pool.held(), 0, "nothing is kept for nobody");
    stage.discover(0, 10 * SECOND);
    stage.discover(1, 10 * SECOND);
    stage.run(MINUTE);
    let held = pool.held();
    assert!(held > 1000 * 200);
    stage.run(5 * MINUTE);
    assert!(pool.held() < held, "what was shown of late is not kept for ever");
    stage.forget_discoverer(0);
    assert!(pool.held() > 0);
    stage.forget_discoverer(1);
    assert_eq!(pool.held(), 0);
    stage.run(MINUTE);
    stage.planner.forget(&key(0));
    let left = stage.planner.holdings();
    assert!(left.scopes == 0 && left.tasks == 0 && left.demand.abs() < 1e-9, "{left:?}");
}

#[test]
fn nothing_is_listed_for_those_who_were_forgotten() {
    // In the middle of a list, between lists, and before the first.
    for wait in [SECOND * 3 / 2, 30 * SECOND, SECOND / 1000] {
        let settings = Settings { requests_per_second: 1.0, burst: 1, ..auto() };
        let mut stage = Stage::new(settings, 50);
        stage.page_size = 10;
        stage.discover(0, 10 * SECOND);
        if wait > SECOND / 100 {
            stage.run(wait);
        }
        stage.forget_discoverer(0);
        stage.run(MINUTE);
        assert!(stage.asked.is_empty() && stage.found.is_empty(), "{wait:?}: {:?}", stage.asked);
        let left = stage.planner.holdings();
        assert!(left.scopes == 0 && left.waiting == (0, 0) && left.demand.abs() < 1e-9, "{left:?}");
    }
}
