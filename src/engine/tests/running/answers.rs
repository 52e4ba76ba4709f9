//! What is made of answers: large ones, lists in slices, what cannot be read, and what may not be in them.

use serde_json::json;

use super::{
    super::{
        rig::{SECOND, settings},
        upstream::Instead,
    },
    stage::{Stage, discovery, id, key, pass},
};
use crate::{
    engine::{Found, Report, coalesce::ModeChoice, planner::Settings},
    ownership::Buckets,
};

async fn listing(bodies: usize) -> Stage {
    let stage = Stage::with(Buckets::alone(), bodies).await;
    stage.connect(stage.connection("token-of-the-engine", Settings { mode: ModeChoice::List, ..settings() })).unwrap();
    stage
}

fn troubles(reports: &[String]) -> Vec<&str> {
    reports.iter().filter_map(|told| told.split_once("trouble: ").map(|(_, trouble)| trouble)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_read_aside_and_what_it_repeats_of_the_credential_is_not_told() {
    let stage = Stage::new().await;
    for size in [1, 100_000] {
        stage.upstream.set("a", "running", &json!({"name": "by token-of-the-engine", "summary": "x".repeat(size)}));
        stage.open();
        stage.watch("a", 1);
        pass(SECOND).await;
        let told = stage.told.deliveries.lock().unwrap()[0].clone();
        let Report::Seen { task, .. } = told.report else { panic!("{told:?}") };
        let name = task.name.clone().unwrap();
        assert!(name.starts_with("by ") && !name.contains("token"), "{name}");
        stage.reports();
        stage.engine.disconnect(&id());
    }
    // It takes its turn, and not more than the time of a request.
    let turn = stage.shares.decoding.lease(&crate::tenancy::Tenant::shared());
    let mut turn = turn;
    assert!(turn.try_grow(1));
    stage.open();
    stage.watch("a", 1);
    pass(14 * SECOND).await;
    assert_eq!(stage.reports(), Vec::<String>::new());
    pass(2 * SECOND).await;
    assert_eq!(troubles(&stage.reports()), ["UpstreamUnavailable Busy"]);
    drop(turn);
    pass(30 * SECOND).await;
    assert_eq!(stage.reports().last().map(String::as_str), Some("a 1 Running running"));
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_read_in_slices_and_what_has_not_changed_is_only_counted() {
    let stage = listing(64 << 20).await;
    for number in 0..1500 {
        stage.upstream.set(&format!("t{number:04}"), "running", &json!({"summary": "x".repeat(300)}));
    }
    for name in ["t0000", "t0700", "t1499", "gone"] {
        stage.watch(name, 1);
    }
    assert!(stage.engine.discover(&id(), key("d"), discovery(1)));
    pass(2 * SECOND).await;
    let mut reports = stage.reports();
    reports.retain(|told| told.starts_with('t'));
    reports.sort();
    assert_eq!(reports, ["t0000 1 Running running", "t0700 1 Running running", "t1499 1 Running running"]);
    let catalogue = |stage: &Stage| {
        let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
        found
            .iter()
            .filter_map(|news| match &news.found {
                Found::Listed { catalogue, .. } => Some(catalogue.len()),
                _ => None,
            })
            .next_back()
    };
    assert_eq!(catalogue(&stage), Some(1500));
    let served = || stage.series(r#"taskwatch_poll_coalesced_tasks_sum{provider="astraControl"}"#).unwrap();
    let bytes = stage.usage().1;
    assert!(bytes > 10_000.0, "{bytes}");
    let (before, lists) = (served(), stage.upstream.count("list"));
    stage.upstream.set("t0700", "paused", &json!({"summary": "x".repeat(300)}));
    stage.upstream.forget("t0000");
    pass(11 * SECOND).await;
    let more = stage.upstream.count("list") - lists;
    assert!(more >= 1);
    let reports = stage.reports();
    assert!(reports.contains(&"t0700 1 Paused paused".to_owned()), "{reports:?}");
    assert!(served() - before >= 2.0);
    assert_eq!(catalogue(&stage), Some(1499));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_says_why() {
    let large = json!({"items": [{"id": "a", "state": "running", "summary": "x".repeat(1_200_000)}]}).to_string();
    let broken = json!({"items": [{"id": "a", "state": "running"}]}).to_string();
    let quiet = format!(r#"{{"title":"{}"}}"#, "x".repeat(1_200_000));
    for (status, body, expected) in [
        (200, large, "InvalidAnswer ElementTooLarge"),
        (200, broken[..30].to_owned(), "InvalidAnswer"),
        (200, r#"{"other":[]}"#.to_owned(), "InvalidAnswer"),
        (500, quiet, "UpstreamUnavailable"),
        (
            403,
            r#"{"type":"https://astra.netapp.io/problems/11","title":"No","status":"403"}"#.to_owned(),
            "PermissionDenied",
        ),
    ] {
        let stage = listing(64 << 20).await;
        for _ in 0..3 {
            stage.upstream.instead("list", Instead::Answer(status, &[], body.clone()));
        }
        assert!(stage.engine.discover(&id(), key("d"), discovery(1)));
        pass(2 * SECOND).await;
        let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
        let Some(Found::Trouble { failure, since, at }) = found.first().map(|news| &news.found) else {
            panic!("{expected}: {found:?}")
        };
        let said = format!("{} {}", failure.class.as_str(), failure.code);
        assert!(said.starts_with(expected), "{said} {expected}");
        assert_eq!(failure.http_status, Some(status));
        assert!(since <= at && stage.clock.now().duration_since(*at).as_secs() < 3);
        let code =
            format!(r#"taskwatch_upstream_requests_total{{provider="astraControl",operation="list",code="{status}"}}"#);
        assert!(stage.series(&code).unwrap() >= 1.0, "{}", stage.metrics.render());
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_of_a_list_than_the_controller_takes() {
    let stage = listing(64 << 20).await;
    *stage.told.room.lock().unwrap() = 2;
    for number in 0..10 {
        let name = format!("t{number}");
        stage.upstream.set(&name, "running", &json!({}));
        stage.watch(&name, 1);
    }
    pass(SECOND / 2).await;
    let first: std::collections::BTreeSet<_> = stage.reports().into_iter().collect();
    assert!((1..10).contains(&first.len()), "{first:?}");
    *stage.told.room.lock().unwrap() = 1000;
    pass(60 * SECOND).await;
    let names: std::collections::BTreeSet<_> = stage.reports().into_iter().chain(first).collect();
    assert_eq!(names.len(), 10, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_for_which_there_is_no_memory_waits_and_then_says_so() {
    let stage = listing(1 << 20).await;
    let hog = crate::tenancy::Tenant::namespace(&std::sync::Arc::from("n"));
    for number in 0..3000 {
        stage.upstream.set(&format!("t{number:04}"), "running", &json!({"summary": "x".repeat(300)}));
    }
    let mut held = stage.shares.bodies.lease(&hog);
    while held.try_grow(1 << 10) {}
    held.shrink_to(held.held() - (70 << 10));
    assert!(stage.engine.discover(&id(), key("d"), discovery(1)));
    pass(20 * SECOND).await;
    let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
    let Some(Found::Trouble { failure, .. }) = found.first().map(|news| &news.found) else { panic!("{found:?}") };
    assert_eq!((failure.code.as_str(), failure.class.as_str()), ("NoMemory", "UpstreamUnavailable"), "{failure}");
    drop(held);
    pass(90 * SECOND).await;
    let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
    assert!(matches!(found.last().map(|news| &news.found), Some(Found::Listed { .. })), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_a_task_are_shown_with_it_and_a_refusal_to_list_them_hides_nothing_else() {
    let stage = Stage::new().await;
    stage.upstream.set("a", "running", &json!({}));
    stage.upstream.set("part", "running", &json!({"parentTaskID": "a"}));
    stage.open();
    stage.watch("a", 1);
    pass(SECOND).await;
    assert_eq!(stage.reports(), ["a 1 Running running of 1"]);
    for _ in 0..5 {
        stage.upstream.instead(
            "parts a",
            Instead::Answer(
                400,
                &[],
                r#"{"type":"https://astra.netapp.io/problems/5","title":"Invalid","status":"400"}"#.to_owned(),
            ),
        );
    }
    pass(30 * SECOND).await;
    assert_eq!(stage.reports(), ["a 1 Running running"]);
    assert_eq!(
        (stage.upstream.count("get a") > 3, stage.upstream.count("parts a")),
        (true, 2),
        "once before, once in vain"
    );
}
