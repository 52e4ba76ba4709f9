//! Answers whose body is not whole: status and header fields count, and of the body nothing does.

use std::time::Duration;

use super::{answer, auth, names, now, provider, with_header};
use crate::{
    domain::{
        failure::{Failure, FailureClass, RetryAfter},
        task::TaskRef,
    },
    providers::Answer,
};

/// A body that would mean something else, were it read.
const BODY: &str = r#"{"job_id":"t1","id":"t1","status":"SUCCESS","state":"completed","access_token":"abc","items":[],"tasks":[],"error_code":"Common.0011","code":5,"message":"task not found"}"#;

fn faulty(status: u16) -> Answer {
    let answer = with_header(answer(status, BODY), "retry-after", "40");
    let answer = with_header(with_header(answer, "x-request-id", "r1"), "x-subject-token", "MIIabc");
    let mut fault = Failure::new(FailureClass::UpstreamUnavailable, "the body ended 30 bytes early");
    fault.code = "ConnectionReset".to_owned();
    Answer { fault: Some(fault), ..answer }
}

/// What each provider makes of it, asked for a task and for a list.
fn of_providers(answer: &Answer) -> Vec<Failure> {
    let asked = TaskRef { scope: "s".to_owned(), id: "t1".to_owned() };
    let single = names().map(|name| provider(name).decode_task(&asked, answer).map(drop));
    let lists = names().filter(|name| provider(name).list_request("", None).is_some());
    let lists = lists.map(|name| provider(name).decode_list("s", answer, &|_: &str| true).map(drop));
    single.chain(lists).map(Result::unwrap_err).collect()
}

fn of_issuers(answer: &Answer) -> Vec<Failure> {
    auth::exchanged().iter().map(|credential| credential.decode_token(answer, now()).unwrap_err()).collect()
}

fn assert_header_fields(failure: &Failure, status: u16) {
    assert_eq!(failure.http_status, Some(status), "{failure}");
    assert_eq!(failure.retry_after, Some(RetryAfter::After(Duration::from_secs(40))), "{failure}");
    assert_eq!(failure.correlation_id.as_deref(), Some("r1"), "{failure}");
    assert!(failure.message.contains("the body ended 30 bytes early"), "{failure}");
}

#[test]
fn an_error_keeps_its_status_and_header_fields() {
    use FailureClass::{AuthenticationFailed, InvalidAnswer, RateLimited, UpstreamUnavailable};
    for (status, class) in [
        (401, AuthenticationFailed),
        (404, InvalidAnswer),
        (410, InvalidAnswer),
        (429, RateLimited),
        (500, UpstreamUnavailable),
        (503, UpstreamUnavailable),
    ] {
        for failure in of_providers(&faulty(status)) {
            assert_header_fields(&failure, status);
            assert_eq!((failure.class, failure.code.as_str()), (class, ""), "{failure}");
            assert!(failure.message.contains(&format!("{status}, but its body could not be read")), "{failure}");
        }
    }
    for (status, class) in [(401, AuthenticationFailed), (429, RateLimited), (503, UpstreamUnavailable)] {
        for failure in of_issuers(&faulty(status)) {
            assert_header_fields(&failure, status);
            assert_eq!(failure.class, class, "{failure}");
        }
    }
}

#[test]
fn a_success_is_the_fault() {
    for status in [200, 201, 202] {
        let answer = faulty(status);
        for failure in of_providers(&answer).into_iter().chain(of_issuers(&answer)) {
            assert_header_fields(&failure, status);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (FailureClass::UpstreamUnavailable, "ConnectionReset"),
                "{failure}"
            );
        }
    }
}
