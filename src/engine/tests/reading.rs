//! Reading lists: what is as it was is not decoded, and yet counts as seen.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::rig::{SECOND, account, key, settings, task};
use crate::domain::{
    cadence,
    task::{Task, TaskState},
};
use crate::engine::{
    Delivery, Report, Subscription,
    coalesce::ModeChoice,
    planner::{JobKind, Outcome, Planner, Settings},
};
use crate::providers::Page;
use crate::tenancy::Tenant;

/// A planner and an upstream whose list is what stands in `shown`: each entry with its parent and its print.
struct Stage {
    planner: Planner,
    now: Instant,
    shown: BTreeMap<String, (Option<String>, u64)>,
    /// Not in the list, though it is there for who asks for it alone.
    hidden: Option<String>,
    /// What had to be decoded of the lists.
    decoded: Vec<String>,
    asked: Vec<JobKind>,
    told: Vec<Delivery<Instant>>,
    room: usize,
}

impl Stage {
    /// With so many watches of the tasks of one scope.
    fn new(watches: usize) -> Self {
        let now = Instant::now();
        let mut planner = Planner::new(Settings { mode: ModeChoice::List, ..settings() }, account(), now);
        let mut shown = BTreeMap::new();
        for number in 0..watches {
            let period = 10 * SECOND;
            let task = task("s", number);
            shown.insert(task.id.clone(), (None, 0));
            let watch = Subscription {
                tenant: Tenant::shared(),
                task,
                period,
                max_period: period,
                age: Duration::ZERO,
                known: true,
                requested: false,
                ticket: 1,
            };
            planner.watch(key(number), &watch, now);
        }
        Self { planner, now, shown, hidden: None, decoded: Vec::new(), asked: Vec::new(), told: Vec::new(), room: 1000 }
    }

    /// Runs for so long, and forgets what was before.
    fn run(&mut self, span: Duration) {
        (self.decoded, self.asked, self.told) = (Vec::new(), Vec::new(), Vec::new());
        let end = self.now + span;
        while self.now <= end {
            while let Some(job) = self.planner.next(self.now) {
                self.asked.push(job.kind.clone());
                let result = self.answer(job.id, &job.kind);
                self.planner.done(job.id, result, 500, None, self.now);
            }
            self.told.extend(self.planner.take_deliveries());
            self.now += SECOND / 10;
        }
    }

    fn answer(&mut self, job: u64, kind: &JobKind) -> Outcome {
        let show = |id: &str, parent: &Option<String>, print: u64| {
            let mut task = Task::new(id, TaskState::Running, "running");
            (task.parent_id, task.order) = (parent.clone(), i64::try_from(print).unwrap());
            task
        };
        match kind {
            JobKind::List(scope, _) => {
                let mut reader = self.planner.list_reader(job, scope, self.room);
                let mut tasks = Vec::new();
                for (id, (parent, print)) in &self.shown {
                    if self.hidden.as_ref() == Some(id) {
                        continue;
                    }
                    // As that of an entry's bytes, which hold its identifier.
                    let whole = cadence::seed(&format!("{id} {print}"));
                    if !reader.knows(whole) && reader.wants(id, parent.as_deref(), whole) {
                        self.decoded.push(id.clone());
                        tasks.push(Arc::new(show(id, parent, *print)));
                    }
                }
                Outcome::List(Ok(Page { tasks, total: self.shown.len(), next: None }))
            }
            JobKind::Get(task) => {
                let (parent, print) = &self.shown[&task.id];
                Outcome::Task(Ok(show(&task.id, parent, *print)))
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn gets(&self) -> usize {
        self.asked.iter().filter(|kind| matches!(kind, JobKind::Get(_))).count()
    }
}

#[test]
fn what_is_as_it_was_is_not_decoded_and_not_missed() {
    let mut stage = Stage::new(20);
    stage.run(15 * SECOND);
    assert_eq!(stage.told.len(), 20);
    stage.run(100 * SECOND);
    assert!(stage.asked.len() >= 9 && stage.gets() == 0, "{:?}", stage.asked);
    assert!(stage.decoded.is_empty() && stage.told.is_empty(), "{:?}", stage.decoded);
    stage.shown.insert("t00007".to_owned(), (None, 1));
    stage.run(15 * SECOND);
    assert_eq!(stage.decoded, ["t00007"]);
    assert!(matches!(&stage.told[..], [Delivery { report: Report::Seen { task, .. }, .. }] if task.id == "t00007"));
}

#[test]
fn a_task_that_leaves_the_list_is_missed_however_long_it_was_the_same() {
    let mut stage = Stage::new(20);
    stage.run(60 * SECOND);
    stage.hidden = Some("t00003".to_owned());
    stage.run(15 * SECOND);
    assert!(stage.gets() >= 1, "{:?}", stage.asked);
    stage.hidden = None;
    stage.run(25 * SECOND);
    stage.run(60 * SECOND);
    assert_eq!((stage.gets(), stage.decoded.len()), (0, 0));
}

#[test]
fn the_first_sub_task_of_an_unchanged_task_brings_it_up_to_date() {
    let mut stage = Stage::new(5);
    stage.run(60 * SECOND);
    // After its parent in the list, so that the parent has been passed over when it comes.
    stage.shown.insert("t00001-part".to_owned(), (Some("t00001".to_owned()), 0));
    stage.run(25 * SECOND);
    assert_eq!(stage.gets(), 1, "it is asked for by itself at once, not with the next list");
    let parent = stage.told.iter().rev().find_map(|delivery| match &delivery.report {
        Report::Seen { task, .. } if task.id == "t00001" => Some(task.subtasks.len()),
        _ => None,
    });
    assert_eq!(parent, Some(1), "{:?}", stage.told);
}

#[test]
fn a_part_that_is_watched_itself_is_shown_with_its_whole_too() {
    let mut stage = Stage::new(5);
    stage.shown.get_mut("t00002").unwrap().0 = Some("t00001".to_owned());
    stage.run(60 * SECOND);
    let parts_of_the_whole = |stage: &Stage| {
        stage.told.iter().rev().find_map(|delivery| match &delivery.report {
            Report::Seen { task, .. } if delivery.key == key(1) => Some(task.subtasks.len()),
            _ => None,
        })
    };
    assert_eq!(parts_of_the_whole(&stage), Some(1), "{:?}", stage.told);
    // The whole is forgotten, and watched again while the part has been the same for long.
    stage.planner.forget(&key(1));
    stage.run(60 * SECOND);
    let watch = Subscription {
        tenant: Tenant::shared(),
        task: task("s", 1),
        period: 10 * SECOND,
        max_period: 10 * SECOND,
        age: Duration::ZERO,
        known: true,
        requested: false,
        ticket: 2,
    };
    stage.planner.watch(key(1), &watch, stage.now);
    stage.run(60 * SECOND);
    assert_eq!(parts_of_the_whole(&stage), Some(1), "{:?}", stage.told);
}

#[test]
fn what_there_is_no_room_for_is_left_to_the_next_list() {
    let mut stage = Stage::new(20);
    stage.room = 3;
    stage.run(3 * SECOND);
    let lists = stage.asked.iter().filter(|kind| matches!(kind, JobKind::List(..))).count();
    assert_eq!((stage.told.len(), stage.decoded.len()), (3 * lists, 3 * lists), "{:?}", stage.asked);
    stage.run(20 * SECOND);
    assert_eq!((stage.told.len(), stage.gets()), (20 - 3 * lists, 0), "none of them is taken for missing");
    for (_, print) in stage.shown.values_mut() {
        *print += 1;
    }
    stage.run(20 * SECOND);
    assert_eq!((stage.told.len(), stage.gets()), (20, 0), "changes, too");
    stage.room = 0;
    stage.shown.values_mut().for_each(|(_, print)| *print += 1);
    stage.run(60 * SECOND);
    assert!(
        stage.told.is_empty() && stage.asked.len() <= 21,
        "nothing is hurried that nobody takes: {:?}",
        stage.asked
    );
    stage.room = 1000;
    stage.run(12 * SECOND);
    assert_eq!((stage.told.len(), stage.gets()), (20, 0));
}
