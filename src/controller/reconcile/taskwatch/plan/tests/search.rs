//! Watches that do not name their task.

use super::*;
use crate::{
    controller::index::Discoverer,
    domain::{
        conditions::{READY, STALLED, find},
        discovery::catalogue::{Candidate, Catalogue},
        target::{Absent, Sought},
    },
    engine::{Discovered, Found},
};

fn from_map(world: &mut World) {
    world.apply(&json!({}), &json!({"task": {"idFrom": {"configMapKeyRef": {"name": "m", "key": "id"}}}}));
}

/// A watch that reads its task's identifier, or takes the latest task.
fn world(task: &serde_json::Value) -> World {
    let mut world = World::blank();
    world.apply(&json!({}), &json!({ "task": task }));
    world
}

fn reading() -> World {
    world(&json!({"idFrom": {"configMapKeyRef": {"name": "m", "key": "id"}}}))
}

fn choosing() -> World {
    world(&json!({"latest": {"nameContains": "ci"}}))
}

/// Where it is to be looked at this time.
fn look(world: &mut World, seconds: u64) -> Option<Lookup> {
    world.seconds = seconds;
    match world.plan_with(None) {
        Planned::LookUp(_, look) => Some(look),
        Planned::Later(_) | Planned::Now(_) => None,
    }
}

/// It is looked, in vain.
fn miss(world: &mut World) {
    let now = world.begin + Duration::from_secs(world.seconds);
    world.entry().search(|search, object| {
        let source = object.spec.task.id_from.as_ref().unwrap().member().unwrap();
        search.has_read(Err(Sought::absent(&Absent::Object, source, "n")), now);
    });
}

fn find_it(world: &mut World, id: &str) {
    let now = world.begin + Duration::from_secs(world.seconds);
    world.entry().search(|search, _| search.has_read(Ok(id.to_owned()), now));
}

fn found(world: &mut World, found: Found<Timestamp>) {
    let key = world.key.clone();
    let told = world.index.discovered(Discovered { key, ticket: 1, found });
    assert!(matches!(told, Some(Discoverer::Watch(_))));
}

fn listed(tasks: &[(&str, u64)]) -> Found<Timestamp> {
    let mut catalogue = Catalogue::default();
    for (id, created) in tasks {
        let (created_time, name) = (Some(at(*created)), Some("ci".into()));
        catalogue.put(Candidate::of(&Task { name, created_time, ..Task::new(*id, TaskState::Running, "running") }));
    }
    Found::Listed { catalogue: Arc::new(catalogue), at: at(1) }
}

fn ready(plan: &Plan) -> String {
    let status = plan.decision.status.as_ref().unwrap();
    let ready = find(&status.conditions, READY).unwrap();
    format!("{} {}: {}", ready.status, ready.reason, ready.message)
}

fn shown(plan: &Plan) -> Option<&str> {
    plan.decision.status.as_ref()?.task.as_ref()?.id.as_deref()
}

#[test]
fn an_identifier_is_looked_for_at_growing_intervals() {
    let mut world = reading();
    let mut looks = Vec::new();
    for second in 1..100 {
        if let Some(Lookup::Read) = look(&mut world, second) {
            looks.push(second);
            miss(&mut world);
        }
        let plan = world.act(second);
        assert_eq!(plan.polling, Polling::Unchanged, "nothing is asked of the upstream");
        assert!(plan.look_at.is_some_and(|at| at > world.begin + Duration::from_secs(second)));
        if plan.decision.status.is_some() {
            assert!(ready(&plan).starts_with("Unknown AwaitingTaskID: "), "{}", ready(&plan));
            assert!(ready(&plan).contains("no ConfigMap m with the key id yet"), "{}", ready(&plan));
            assert_eq!(second, 2, "it is said once");
        }
    }
    assert_eq!(looks, [1, 3, 7, 15, 30, 45, 60, 75, 90]);
}

#[test]
fn a_look_that_is_requested_is_had_at_once() {
    let mut world = reading();
    for second in [1, 3, 7] {
        assert!(look(&mut world, second).is_some());
        miss(&mut world);
    }
    assert!(look(&mut world, 8).is_none());
    let task = json!({"task": {"idFrom": {"configMapKeyRef": {"name": "m", "key": "id"}}}});
    let mut ask = |value: &str| {
        world.apply(&json!({"taskwatch.dev/requestedAt": value}), &task);
        let is_had = look(&mut world, 8).is_some();
        miss(&mut world);
        is_had
    };
    assert_eq!(["a", "a", "b"].map(&mut ask), [true, false, true], "each request once");
}

#[test]
fn what_was_found_is_recorded_polled_and_kept() {
    let mut world = reading();
    assert!(matches!(look(&mut world, 1), Some(Lookup::Read)));
    miss(&mut world);
    world.act(2);
    assert!(look(&mut world, 3).is_some());
    find_it(&mut world, "t");
    assert!(look(&mut world, 3).is_none());
    let plan = world.act(3);
    assert_eq!(shown(&plan), Some("t"));
    let Polling::Register(watch) = &plan.polling else { panic!("{:?}", plan.polling) };
    assert_eq!((watch.task.id.as_str(), watch.age, plan.look_at), ("t", Duration::ZERO, None));
    find_it(&mut world, "other");
    world.see(TaskState::Running);
    let plan = world.act(200);
    assert_eq!(shown(&plan), Some("t"));
    assert_eq!(plan.polling, Polling::Unchanged);
    assert!(look(&mut world, 400).is_none());
}

#[test]
fn after_a_restart_the_status_is_believed() {
    let mut world = reading();
    world.seconds = 1;
    find_it(&mut world, "t");
    let status = world.act(1).decision.status.unwrap();
    let mut fresh = World::blank();
    fresh.status = Some(status);
    from_map(&mut fresh);
    assert!(look(&mut fresh, 100).is_none());
    assert_eq!(fresh.registered(100).task.id, "t");
    assert_eq!(fresh.entry().claim().task, Some("t"));
    // So it is when another process has found it.
    let mut other = reading();
    assert!(look(&mut other, 1).is_some());
    other.status = fresh.status;
    from_map(&mut other);
    assert_eq!(other.registered(2).task.id, "t");
}

#[test]
fn a_status_that_somebody_wrote_over_is_mended() {
    let mut world = reading();
    world.seconds = 1;
    find_it(&mut world, "t");
    let mut status = world.act(1).decision.status.unwrap();
    status.task.as_mut().unwrap().id = Some("mine".into());
    world.status = Some(status);
    from_map(&mut world);
    assert_eq!(shown(&world.plan(10)), Some("t"));
}

#[test]
fn it_is_looked_for_only_where_it_could_be_polled() {
    let deadline: fn(&mut World) = |world| {
        let task = json!({"idFrom": {"configMapKeyRef": {"name": "m", "key": "id"}}});
        world.apply(&json!({}), &json!({"task": task, "activeDeadlineSeconds": 9}));
    };
    let suspended: fn(&mut World) = |world| {
        let task = json!({"idFrom": {"configMapKeyRef": {"name": "m", "key": "id"}}});
        world.apply(&json!({}), &json!({"task": task, "suspend": true}));
    };
    let missing: fn(&mut World) = |world| world.connection = missing(Reason::ConnectionNotFound);
    for happens in [deadline, suspended, missing] {
        let mut world = reading();
        assert!(look(&mut world, 1).is_some());
        happens(&mut world);
        assert!(look(&mut world, 10).is_none());
        assert_eq!(world.act(10).look_at, None);
    }
}

#[test]
fn the_latest_task_is_taken_from_the_list_and_then_polled() {
    let mut world = choosing();
    let plan = world.act(2);
    let Polling::Discover(discovery) = &plan.polling else { panic!("{:?}", plan.polling) };
    assert_eq!((discovery.scope.as_str(), discovery.period), ("s", Duration::from_secs(10)));
    assert!(ready(&plan).starts_with("Unknown AwaitingTask: Waiting for a task with \"ci\" in its name"));
    assert_eq!(world.plan(3).polling, Polling::Unchanged, "it is told once");
    for (tasks, expected) in [(&[][..], None), (&[("older", 0)], Some("older")), (&[("older", 0), ("t", 7)], Some("t"))]
    {
        found(&mut world, listed(tasks));
        let Some(Lookup::Choose(catalogue)) = look(&mut world, 10) else { panic!("there are tasks to choose from") };
        let object = Arc::clone(&world.entry().object);
        let latest = object.spec.task.latest.as_ref().unwrap();
        let chosen = crate::domain::discovery::latest::newest(latest, object.created, &catalogue);
        assert_eq!(chosen.as_ref().map(|task| &*task.id), expected);
        if expected != Some("t") {
            world.entry().search(|search, _| search.has_chosen(&catalogue, None));
            assert!(look(&mut world, 10).is_none(), "each list is looked through once");
            continue;
        }
        world.entry().search(|search, _| search.has_chosen(&catalogue, chosen.map(|task| Arc::clone(&task.id))));
    }
    let plan = world.act(10);
    assert_eq!(shown(&plan), Some("t"));
    assert!(matches!(&plan.polling, Polling::Register(watch) if watch.task.id == "t"), "{:?}", plan.polling);
    // What the list says later is for others.
    found(&mut world, listed(&[("newer", 100)]));
    assert!(look(&mut world, 11).is_none());
    world.see(TaskState::Running);
    assert_eq!(shown(&world.act(20)), Some("t"));
}

#[test]
fn where_there_are_no_lists_that_is_said_and_where_they_fail_that_is() {
    let mut world = choosing();
    world.act(2);
    found(&mut world, Found::Unsupported);
    let plan = world.act(3);
    assert!(ready(&plan).starts_with("False ListNotSupported: "), "{}", ready(&plan));
    assert!(find(&plan.decision.status.as_ref().unwrap().conditions, STALLED).is_some());
    assert_eq!(world.plan(4).polling, Polling::Unchanged, "should the connection be changed, it is told");
    let failure = Arc::new(Failure::new(FailureClass::PermissionDenied, "root@10.1.2.3 may not"));
    found(&mut world, Found::Trouble { failure, since: at(4), at: at(4) });
    world.tells_all = false;
    world.act(50);
    let plan = world.act(100);
    assert!(
        ready(&plan).starts_with("Unknown PermissionDenied: ") && !ready(&plan).contains("10.1.2.3"),
        "{}",
        ready(&plan)
    );
    // Not asked for any more, it is no news either.
    world.connection = missing(Reason::SecretNotFound);
    assert_eq!(world.act(110).polling, Polling::CallOff);
    world.connection = Ok(true);
    let plan = world.act(120);
    assert!(matches!(plan.polling, Polling::Discover(_)) && ready(&plan).starts_with("Unknown AwaitingTask: "));
}
