//! What is told of a connection to people: whole texts, and what is never in them.

use std::{fmt::Write, sync::Arc};

use jiff::Timestamp;

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::task::TaskState;
use crate::engine::{
    ConnectionAgenda, ConnectionId,
    agenda::Circumstances,
    coalesce::ModeChoice,
    planner::{Settings, Wait, Why},
};

fn agenda(rig: &mut Rig, lost_bucket: Option<u16>) -> ConnectionAgenda {
    while rig.pump() {}
    let id = ConnectionId { namespace: Some(Arc::from("team-a")), name: Arc::from("evs") };
    let wait = rig.planner.wait(rig.now);
    let around = Circumstances { provider: "huaweiCloud", wait, lost_bucket, throttled: false };
    ConnectionAgenda::of(&id, &rig.planner, &around, rig.now, "2026-03-01T12:00:00Z".parse().unwrap())
}

#[test]
fn whole_texts() {
    let mut texts = String::new();
    let mut tell = |what: &str, rig: &mut Rig| {
        let agenda = agenda(rig, None);
        writeln!(texts, "# {what}\n{agenda}").unwrap();
    };
    tell("nothing to poll", &mut Rig::new(settings()));
    let mut rig = Rig::with_tasks(settings(), 8, false);
    rig.upstream.latency = 2 * SECOND;
    tell("new tasks, of which one tries the credential", &mut rig);
    rig.run(20 * SECOND);
    tell("polled one by one", &mut rig);
    rig.upstream.fault = Some(Fault::Down);
    rig.run(5 * MINUTE);
    tell("the upstream is down", &mut rig);
    let mut rig = Rig::with_tasks(Settings { requests_per_second: 0.1, burst: 1, ..settings() }, 3, false);
    rig.run(5 * MINUTE);
    tell("too little budget", &mut rig);
    let mut rig = Rig::new(Settings { mode: ModeChoice::List, ..settings() });
    for (number, scope) in [(0, "a/s"), (1, "a/s"), (2, "b/t")] {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch(number, &task(scope, number), false);
    }
    rig.discover(0, "b/t", MINUTE);
    rig.run(20 * SECOND);
    tell("lists, for tasks and for a set", &mut rig);
    let lost = agenda(&mut rig, Some(3));
    writeln!(texts, "# another replica's\n{lost}").unwrap();
    insta::assert_snapshot!(texts);
}

#[test]
fn an_agenda_has_its_bounds_and_nothing_foreign() {
    let mut rig = Rig::with_tasks(settings(), 2000, true);
    for watcher in 3000..3020 {
        rig.watch(watcher, &task("s", 0), true);
    }
    rig.run(MINUTE);
    rig.upstream.fault = Some(Fault::Refused);
    rig.run(5 * MINUTE);
    let message = rig.planner.trouble().unwrap().failure.message.clone();
    assert!(!message.is_empty());
    let agenda = agenda(&mut rig, None);
    let (json, text) = (serde_json::to_string(&agenda).unwrap(), agenda.to_string());
    for text in [&json, &text] {
        assert!(text.len() < 4096, "{text}");
        assert!(
            !text.contains(&message) && !text.contains("t00"),
            "neither words of upstreams nor identifiers: {text}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["waiting"], 2000);
    assert_eq!(json["wait"]["reason"], "Credential");
    assert_eq!(json["next"].as_array().unwrap().len(), 10);
    assert!(json["next"].as_array().unwrap().iter().all(|next| next["watchedBy"].as_array().unwrap().len() <= 3));
}

#[test]
fn times_are_those_of_the_wall() {
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.run(SECOND);
    let agenda = serde_json::to_value(agenda(&mut rig, None)).unwrap();
    let seconds = agenda["wait"]["until"]["inSeconds"].as_f64().unwrap();
    let until: Timestamp = agenda["wait"]["until"]["time"].as_str().unwrap().parse().unwrap();
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    assert!((until.duration_since(start).as_secs_f64() - seconds).abs() < 0.01 && seconds > 5.0, "{agenda}");
    assert_eq!(rig.planner.wait(rig.now).why, Why::Due);
    assert!(matches!(rig.planner.wait(rig.now), Wait { until: Some(_), .. }));
}
