//! What the users of a shared connection are told of its failures.

use serde_json::to_string;

use super::{Decision, FailureClass, News, World, at, running};
use crate::{api::OnNotFound, domain::failure::Failure};

/// Whether anything of the upstream's own words is in what is written or told.
fn quotes(decision: &Decision) -> bool {
    let written = to_string(&decision.status).unwrap();
    let told: String = decision.events.iter().map(|event| event.note.as_str()).collect();
    [written, told].iter().any(|text| text.contains("The upstream says no") || text.contains("No such task"))
}

#[test]
fn no_failure_of_a_shared_connection_is_told_in_the_upstreams_words() {
    for is_guest in [true, false] {
        for class in FailureClass::ALL {
            // While it is young, after a while, and for too long; with and without an observation before.
            for first in [News::None, running(20)] {
                let mut world = World::new();
                (world.is_guest, world.chatty) = (is_guest, true);
                world.then(2, first);
                let mut quoted = false;
                for secs in [10, 60, 700, 800] {
                    quoted |= quotes(&world.then(secs, News::Trouble { class, since: at(5) }));
                }
                assert_eq!(quoted, !is_guest, "{class:?}");
            }
        }
        for policy in [OnNotFound::Fail, OnNotFound::Succeed, OnNotFound::Retry] {
            let mut world = World::new();
            world.is_guest = is_guest;
            world.spec.on_not_found = policy;
            let mut quoted = quotes(&world.then(10, News::NotFound { since: at(10) }));
            quoted |= quotes(&world.then(100, News::NotFound { since: at(10) }));
            assert_eq!(quoted, !is_guest, "{policy:?}");
        }
    }
}

#[test]
fn a_code_is_passed_on_only_where_it_is_one() {
    for (code, expected) in [
        ("APIGW.0301", "APIGW.0301"),
        ("", ""),
        ("token abc", ""),
        ("https://internal/", ""),
        ("é", ""),
        (&"x".repeat(65), ""),
    ] {
        let failure = Failure {
            code: code.to_owned(),
            http_status: Some(401),
            correlation_id: Some("id".into()),
            ..Failure::new(FailureClass::AuthenticationFailed, "Token abc of host internal is refused.")
        };
        let told = failure.for_others();
        assert_eq!((told.code.as_str(), told.http_status, &told.correlation_id), (expected, Some(401), &None));
        assert!(!told.to_string().contains("internal"), "{told}");
    }
}
