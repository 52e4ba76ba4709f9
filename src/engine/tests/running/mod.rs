//! The engine as the controller uses it: what is sent, what is delivered, and what is told of a connection.

mod answers;
mod stage;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use self::stage::{Stage, discovery, id, key, pass, subscription};
use super::{
    rig::{SECOND, settings},
    upstream::Instead,
};
use crate::{
    engine::{
        Found, Predecessor, Report,
        coalesce::{Mode, ModeChoice},
        planner::Settings,
        transport::SettingsError,
    },
    ownership::Buckets,
    providers::huawei_cloud::HuaweiCloud,
};

#[tokio::test(start_paused = true)]
async fn what_is_watched_is_asked_for_and_told_and_what_is_forgotten_is_not() {
    let stage = Stage::new().await;
    assert!(!stage.engine.watch(&id(), key("a"), subscription("a", 1)), "there is no such connection");
    assert!(!stage.engine.discover(&id(), key("d"), discovery(1)));
    stage.upstream.set("a", "running", &json!({}));
    stage.open();
    stage.watch("a", 1);
    stage.watch("b", 7);
    let begin = stage.clock.now();
    pass(SECOND).await;
    let first = stage.told.deliveries.lock().unwrap().iter().find(|told| told.key == key("a")).cloned().unwrap();
    let Report::Seen { at, .. } = first.report else { panic!("{first:?}") };
    assert!(at.duration_since(begin) < jiff::SignedDuration::from_millis(200), "{at}");
    let mut reports = stage.reports();
    reports.sort();
    assert_eq!(reports, ["a 1 Running running", "b 7 missing: NotFound"]);
    let mut asked = stage.upstream.asked();
    asked.sort();
    assert_eq!(asked, ["get a", "get b", "parts a"]);
    pass(30 * SECOND).await;
    assert_eq!(stage.upstream.count("get a"), 3);
    assert_eq!(stage.reports(), Vec::<String>::new(), "what is as it was is not told again");
    stage.engine.forget(&id(), key("a"));
    pass(SECOND).await;
    stage.upstream.asked();
    pass(30 * SECOND).await;
    assert_eq!((stage.upstream.count("get a"), stage.upstream.count("get b") > 0), (0, true));
    stage.reports();
    stage.engine.disconnect(&id());
    pass(SECOND).await;
    stage.upstream.asked();
    pass(30 * SECOND).await;
    assert_eq!((stage.upstream.asked().len(), stage.reports().len()), (0, 0));
    assert!(!stage.engine.watch(&id(), key("a"), subscription("a", 2)));
    // So with all of them.
    stage.open();
    stage.watch("a", 3);
    pass(SECOND).await;
    assert_eq!(stage.reports(), ["a 3 Running running"]);
    stage.engine.close();
    pass(SECOND).await;
    stage.upstream.asked();
    pass(30 * SECOND).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    assert!(!stage.engine.watch(&id(), key("a"), subscription("a", 4)));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_is_counted_with_what_came_of_it() {
    let stage = Stage::new().await;
    stage.upstream.set("a", "running", &json!({}));
    stage.open();
    stage.watch("a", 1);
    stage.watch("b", 1);
    pass(SECOND).await;
    let requests = |operation: &str, code: &str| {
        let labels = format!(r#"provider="astraControl",operation="{operation}",code="{code}""#);
        stage.series(&format!("taskwatch_upstream_requests_total{{{labels}}}"))
    };
    assert_eq!(
        (requests("get", "200"), requests("get", "404"), requests("subtasks", "200")),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    let (sent, bytes) = stage.usage();
    assert!(sent > 0.0 && bytes > sent * 20.0, "{sent} {bytes}");
    let tasks = |state: &str| {
        stage.series(&format!(r#"taskwatch_tasks{{provider="astraControl",state="{state}"}}"#)).unwrap_or(0.0)
    };
    pass(22 * SECOND).await;
    assert_eq!((tasks("Running"), tasks("Unknown"), tasks("Pending")), (1.0, 1.0, 0.0));
    assert_eq!(
        stage.series(r#"taskwatch_poll_lag_seconds_count{provider="astraControl"}"#).map(|count| count > 2.0),
        Some(true)
    );
}

#[tokio::test(start_paused = true)]
async fn another_credential_asks_for_everything_anew_and_other_bounds_do_not() {
    let stage = Stage::new().await;
    stage.upstream.set("a", "running", &json!({}));
    stage.open();
    stage.watch("a", 1);
    pass(2 * SECOND).await;
    stage.upstream.asked();
    stage.reports();
    let health = stage.health();
    assert!(!health.is_empty());
    let faster = Settings { requests_per_second: 7.0, ..settings() };
    stage.connect(stage.connection("token-of-the-engine", faster.clone())).unwrap();
    pass(2 * SECOND).await;
    assert_eq!((stage.upstream.asked(), stage.health().len()), (Vec::new(), 0));
    // What is on its way by the old one is let go of.
    pass(5 * SECOND).await;
    stage.upstream.instead("get a", Instead::Silence);
    pass(2 * SECOND).await;
    assert_eq!(stage.upstream.asked(), ["get a"]);
    stage.connect(stage.connection("token-of-another-engine", faster)).unwrap();
    pass(10 * SECOND).await;
    let asked = stage.upstream.asked_by();
    assert_eq!(asked, ["get a", "parts a"].map(|line| (line.to_owned(), "Bearer token-of-another-engine".to_owned())));
    assert_eq!((stage.reports(), stage.health().len()), (Vec::new(), 1), "what is as it was is not told again");
    pass(30 * SECOND).await;
    assert!(stage.reports().is_empty(), "no time-out is told of what was let go of");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leads_to_another_api_is_counted_there() {
    let stage = Stage::new().await;
    stage.open();
    pass(SECOND).await;
    let served = |provider: &str| stage.series(&format!(r#"taskwatch_connections{{provider="{provider}"}}"#));
    assert_eq!((served("astraControl"), served("huaweiCloud")), (Some(1.0), None));
    let mut huawei = stage.connection("token-of-another-api", settings());
    huawei.provider = Arc::new(HuaweiCloud::new("own"));
    stage.connect(huawei).unwrap();
    pass(SECOND).await;
    assert_eq!((served("astraControl"), served("huaweiCloud")), (None, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_kept_as_far_as_there_is_memory_for_them() {
    let stage = Stage::new().await;
    let token = |size: usize| "x".repeat(size);
    stage.connect(stage.connection(&token(1900), settings())).unwrap();
    assert_eq!(stage.connect(stage.connection(&token(9000), settings())), Err(SettingsError::NoRoom));
    let other = crate::engine::ConnectionId { namespace: Some(Arc::from("m")), name: Arc::from("c") };
    assert_eq!(
        stage.engine.connect(&other, stage.connection(&token(2000), settings()), Predecessor::default()),
        Err(SettingsError::NoRoom)
    );
    assert!(!stage.engine.watch(&other, key("a"), subscription("a", 1)));
    // A shorter one gives room back, and so does the end.
    stage.connect(stage.connection(&token(500), settings())).unwrap();
    stage.engine.connect(&other, stage.connection(&token(1000), settings()), Predecessor::default()).unwrap();
    stage.engine.disconnect(&other);
    stage.connect(stage.connection(&token(1900), settings())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_not_the_owner_asks_nothing() {
    let stage = Stage::with(Buckets::new(1), 64 << 20).await;
    stage.upstream.set("a", "running", &json!({}));
    stage.open();
    stage.watch("a", 1);
    pass(20 * SECOND).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    let bucket = stage.buckets.bucket(0);
    bucket.hold_until(Instant::now() + 15 * SECOND);
    pass(Duration::from_millis(700)).await;
    assert_eq!(stage.reports(), ["a 1 Running running"]);
    pass(15 * SECOND).await;
    stage.upstream.asked();
    pass(30 * SECOND).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_asked_to_be_silent_is() {
    let stage = Stage::new().await;
    stage.upstream.set("a", "running", &json!({}));
    let until = stage.clock.now() + 60 * SECOND;
    let before = Predecessor { retry_at: Some(until), ..Predecessor::default() };
    stage.engine.connect(&id(), stage.connection("token-of-the-engine", settings()), before).unwrap();
    stage.watch("a", 1);
    pass(59 * SECOND).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    let told = stage.health();
    let retry_at = told[0].retry_at.unwrap();
    assert!((0..=1).contains(&retry_at.duration_since(until).as_secs()), "{retry_at}");
    pass(3 * SECOND).await;
    assert_eq!(stage.reports(), ["a 1 Running running"]);
    // What has passed already is nothing.
    stage.engine.disconnect(&id());
    stage.engine.connect(&id(), stage.connection("token-of-the-engine", settings()), before).unwrap();
    stage.watch("a", 1);
    pass(SECOND).await;
    assert_eq!(stage.reports(), ["a 1 Running running"]);
}

#[tokio::test(start_paused = true)]
async fn who_polled_before_may_have_spent_what_could_be_spent_at_once() {
    for (has_polled, asked) in [(false, 10..=13), (true, 1..=4)] {
        let stage = Stage::new().await;
        let bounds = Settings { requests_per_second: 1.0, burst: 10, ..settings() };
        let before = Predecessor { has_polled, ..Predecessor::default() };
        stage.engine.connect(&id(), stage.connection("token-of-the-engine", bounds), before).unwrap();
        for number in 0..10 {
            stage.watch(&number.to_string(), 1);
        }
        pass(3 * SECOND).await;
        let count = stage.upstream.asked().len();
        assert!(asked.contains(&count), "{has_polled}: {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_connection_what_is_new_is_told_and_nothing_else() {
    let stage = Stage::new().await;
    stage.upstream.set("a", "running", &json!({}));
    stage.open();
    pass(SECOND).await;
    let told = stage.health();
    assert_eq!(told.len(), 1);
    assert!(told[0].trouble.is_none() && told[0].last_success.is_none() && !told[0].insecure && !told[0].throttled);
    stage.watch("a", 1);
    pass(SECOND).await;
    let told = stage.health();
    assert!(told.last().unwrap().last_success.is_some() && told.len() <= 2, "{told:?}");
    assert_eq!(told.last().unwrap().mode, Some(Mode::Get));
    pass(50 * SECOND).await;
    assert_eq!(stage.health().len(), 0, "a success alone is news once a minute");
    pass(22 * SECOND).await;
    assert_eq!(stage.health().len(), 1);
    let up = || stage.series(r#"taskwatch_connection_up{provider="astraControl"}"#);
    assert_eq!(up(), Some(1.0));
    for _ in 0..3 {
        stage.upstream.instead("get a", Instead::Answer(429, &[("Retry-After", "20")], "{}".to_owned()));
    }
    pass(11 * SECOND).await;
    let told = stage.health();
    let now = stage.clock.now();
    assert_eq!(told.len(), 1, "{told:?}");
    let (failure, since) = told[0].trouble.as_ref().unwrap();
    assert_eq!((failure.http_status, up()), (Some(429), Some(0.0)));
    assert!(now.duration_since(*since).as_secs() < 12);
    assert!((10..=21).contains(&told[0].retry_at.unwrap().duration_since(now).as_secs()), "{told:?}");
    pass(120 * SECOND).await;
    let told = stage.health();
    assert!(told.last().unwrap().trouble.is_none() && told.last().unwrap().retry_at.is_none());
    assert_eq!(up(), Some(1.0));
    // What can be read on the way is said before anything is sent.
    let mut open = stage.connection("token-of-yet-another", settings());
    open.endpoint = "http://10.255.255.1".parse().unwrap();
    stage.connect(open).unwrap();
    pass(SECOND / 10).await;
    assert!(stage.health().last().unwrap().insecure);
}

#[tokio::test(start_paused = true)]
async fn one_list_serves_those_who_watch_and_those_who_discover() {
    let stage = Stage::new().await;
    for name in ["a", "b", "c"] {
        stage.upstream.set(name, "running", &json!({}));
    }
    stage.upstream.page(2);
    stage.connect(stage.connection("token-of-the-engine", Settings { mode: ModeChoice::List, ..settings() })).unwrap();
    assert!(stage.engine.discover(&id(), key("d"), discovery(5)));
    stage.watch("a", 1);
    stage.watch("x", 1);
    pass(SECOND).await;
    let asked = stage.upstream.asked();
    let first = asked.iter().position(|line| line == "list own").unwrap();
    assert!(asked[first..].contains(&"list own c".to_owned()), "{asked:?}");
    let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
    assert_eq!((found.len(), found[0].ticket, found[0].key.clone()), (1, 5, key("d")));
    let Found::Listed { catalogue, at } = &found[0].found else { panic!("{found:?}") };
    assert_eq!(catalogue.len(), 3);
    assert!(stage.clock.now().duration_since(*at).as_secs() < 2);
    assert!(stage.reports().contains(&"a 1 Running running".to_owned()));
    pass(2 * SECOND).await;
    stage.engine.forget(&id(), key("d"));
    stage.upstream.set("e", "running", &json!({}));
    pass(30 * SECOND).await;
    assert_eq!(stage.told.discovered.lock().unwrap().len(), 0);
    // Some APIs have no lists.
    let mut huawei = stage.connection("token-of-another-api", settings());
    huawei.provider = Arc::new(HuaweiCloud::new("own"));
    stage.connect(huawei).unwrap();
    assert!(stage.engine.discover(&id(), key("d"), discovery(6)));
    pass(SECOND).await;
    let found = std::mem::take(&mut *stage.told.discovered.lock().unwrap());
    assert!(matches!(found[..], [ref news] if news.found == Found::Unsupported && news.ticket == 6), "{found:?}");
}
