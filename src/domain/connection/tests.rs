//! What a connection says.

use super::*;
use crate::domain::verdicts::verdicts;

const ANSWERING: Upstream<'static> = Upstream::Answering { stretch: 1.0, throttled: false, insecure: false };

fn input<'a>(upstream: Result<Upstream<'a>, &'a Unavailable>) -> Input<'a> {
    let (status, mode, last_success, retry_at) = (None, Some("List"), None, None);
    Input { generation: 1, status, upstream, active: 1, finished: 0, mode, last_success, retry_at }
}

/// Each reason that a connection can give, and what other tools make of it: the table of docs/status.md.
#[test]
fn the_table_of_connections() {
    let mut text = "| reason | Ready | Reconciling | Stalled | kstatus | Argo CD | Argo CD after 10 minutes |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut row = |input: &Input<'_>| {
        let status = decide(input, now).unwrap();
        let word = |kind| find(&status.conditions, kind).map_or("–", |condition| condition.status.as_str());
        let [ready, reconciling, stalled] = [READY, conditions::RECONCILING, conditions::STALLED].map(word);
        let reason = &find(&status.conditions, READY).unwrap().reason;
        let verdicts = |now| verdicts("TaskConnection", input.generation, Some(&status), now);
        let (at_once, later) = (verdicts(now), verdicts(now + SignedDuration::from_secs(601)));
        assert_eq!(at_once.kstatus, later.kstatus, "kstatus knows no time");
        writeln!(
            text,
            "| `{reason}` | {ready} | {reconciling} | {stalled} | {} | {} | {} |",
            at_once.kstatus, at_once.argocd, later.argocd
        )
        .unwrap();
    };
    row(&input(Ok(ANSWERING)));
    row(&Input { active: 0, ..input(Ok(Upstream::Untried)) });
    row(&input(Ok(Upstream::Untried)));
    // The others are those of a TaskWatch.
    for reason in [Reason::SecretNotFound, Reason::InvalidSpec, Reason::LimitExceeded] {
        row(&input(Err(&Unavailable::new(reason, "The reason."))));
    }
    // A connection is not told of a task that is not found.
    for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::NotFound) {
        row(&input(Ok(Upstream::Failing { failure: &Failure::new(class, "The upstream says no.") })));
    }
    insta::assert_snapshot!("table", text);
}

/// Else the status that the API server shows would look like somebody else's.
#[test]
fn what_is_written_comes_back_as_it_was() {
    let time = |text: &str| Some(text.parse().unwrap());
    let (last_success, retry_at) = (time("2026-11-22T10:12:25.123456Z"), time("2026-11-22T10:15:00Z"));
    let input = Input { last_success, retry_at, ..input(Ok(ANSWERING)) };
    let written = decide(&input, "2026-11-22T10:12:26.7Z".parse().unwrap()).unwrap();
    let shown = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
    assert_eq!(written, shown);
}

#[test]
fn what_delays_a_connection_that_works_is_said() {
    assert_eq!(working(1.0, false, false), "The upstream answers");
    assert!(working(3.0, false, false).contains("up to 4 times as long as wanted"));
    let both = working(3.0, true, false);
    assert!(both.contains("rateLimit allows") && both.contains("more processing time than its share"), "{both}");
    assert!(working(1.0, true, false).starts_with("The upstream answers. Its requests are delayed"));
}

#[test]
fn that_a_credential_can_be_read_on_the_way_is_said() {
    assert!(working(1.0, false, true).contains("credential included, can be read on the way"));
}

#[test]
fn who_was_open_may_have_polled() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let secret = Unavailable::new(Reason::SecretNotFound, "no Secret");
    let was_open_after = |input: &Input<'_>| was_open(&decide(input, now).unwrap());
    assert!(!was_open(&ConnectionStatus::default()), "as the API server makes it");
    assert!(!was_open_after(&input(Err(&secret))), "it could never be opened");
    assert!(was_open_after(&input(Ok(Upstream::Untried))), "the first request may be on its way");
    assert!(was_open_after(&Input { active: 0, ..input(Ok(Upstream::Untried)) }));
    assert!(was_open_after(&Input { last_success: Some(now), ..input(Err(&secret)) }), "it could be opened once");
}
