use serde_json::{Value as Json, json};
use taskwatch_harness::Collector;

use super::*;

/// How much was counted so.
fn counted(metrics: &Metrics, result: &str) -> u64 {
    let text = metrics.render();
    let start = format!("taskwatch_trace_spans_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap()
}

fn poll(traces: &Traces, failure: Option<&'static str>) -> Start {
    let start = traces.start();
    let later = start.at + Duration::from_millis(20);
    let code = [("http.response.status_code", Value::from(200_u16))];
    traces.part(start.context.unwrap(), "request", (start.at, later), &code);
    let failure: Vec<_> = failure.map(|class| ("error.type", Value::from(class))).into_iter().collect();
    let connection = [("taskwatch.connection", Value::from("team-a/\"evs\"".to_owned()))];
    traces.ended(start, "poll", &[&failure[..], &connection].concat());
    start
}

#[tokio::test]
async fn a_batch_is_as_the_protocol_has_it() {
    let (collector, metrics) = (Collector::start(200).await.unwrap(), Metrics::new());
    let traces = Traces::to(collector.url().parse().unwrap(), metrics.clone());
    let began = SystemTime::now();
    poll(&traces, Some("RateLimited"));
    traces.finish(Duration::from_secs(10)).await;
    let bodies = collector.bodies().unwrap();
    let [body] = &bodies[..] else { panic!("{bodies:?}") };
    let body: Json = serde_json::from_str(body).unwrap();
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    assert_eq!(resource[0], text("service.name", "taskwatch"));
    assert_eq!(resource[1], text("service.version", env!("CARGO_PKG_VERSION")));
    let scope = &body["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope["scope"]["name"], "taskwatch");
    let [request, poll] = &scope["spans"].as_array().unwrap()[..] else { panic!("{scope}") };
    for (span, fields) in [(request, 8), (poll, 8)] {
        let is_hex = |text: &Json, digits: usize| {
            let text = text.as_str().unwrap();
            text.len() == digits
                && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
                && text.bytes().any(|digit| digit != b'0')
        };
        assert!(is_hex(&span["traceId"], 32) && is_hex(&span["spanId"], 16), "{span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
        assert!(start + 1_000_000_000 > began && start < began + 60_000_000_000 && start <= end, "{span}");
        assert_eq!(span.as_object().unwrap().len(), fields, "{span}");
    }
    assert_eq!((&request["name"], &request["kind"]), (&json!("request"), &json!(3)));
    assert_eq!((&poll["name"], &poll["kind"]), (&json!("poll"), &json!(1)));
    assert_eq!(request["parentSpanId"], poll["spanId"]);
    assert_eq!(request["traceId"], poll["traceId"]);
    assert_ne!(request["spanId"], poll["spanId"]);
    assert_eq!(request["attributes"], json!([{"key": "http.response.status_code", "value": {"intValue": "200"}}]));
    assert_eq!(poll["attributes"][1], text("taskwatch.connection", "team-a/\"evs\""));
    assert_eq!(poll["status"], json!({"code": 2}));
    assert!(request.get("status").is_none() && poll.get("parentSpanId").is_none());
    assert_eq!((counted(&metrics, "sent"), counted(&metrics, "dropped"), counted(&metrics, "failed")), (2, 0, 0));
}

#[tokio::test]
async fn identifiers_are_never_the_same() {
    let (queue, _spans) = mpsc::channel(1);
    let traces = Traces::into(queue, Metrics::new());
    let contexts: std::collections::HashSet<_> =
        (0..10_000).map(|_| traces.start().context.unwrap()).flat_map(|one| [one.trace, one.span.into()]).collect();
    assert_eq!(contexts.len(), 20_000);
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted_and_nothing_waits() {
    let (queue, mut spans) = mpsc::channel(3);
    let metrics = Metrics::new();
    let traces = Traces::into(queue, metrics.clone());
    for _ in 0..10 {
        poll(&traces, None);
    }
    assert_eq!(counted(&metrics, "dropped"), 17);
    for _ in 0..3 {
        assert!(matches!(spans.try_recv(), Ok(Message::Span(_))));
    }
    assert!(spans.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_refuses_or_is_not_there_costs_its_spans_alone() {
    let refusing = Collector::start(503).await.unwrap();
    let nobody = Collector::start(200).await.unwrap().url().to_owned();
    for url in [refusing.url(), &nobody] {
        let metrics = Metrics::new();
        let traces = Traces::to(url.parse().unwrap(), metrics.clone());
        poll(&traces, None);
        traces.finish(Duration::from_secs(10)).await;
        assert_eq!((counted(&metrics, "sent"), counted(&metrics, "failed")), (0, 2), "{url}");
    }
}

#[tokio::test]
async fn who_is_followed_is_told_once_and_their_number_is_bounded() {
    let (queue, _spans) = mpsc::channel(1);
    let traces = Traces::into(queue, Metrics::new());
    let uids: Vec<Arc<str>> = (0..2 * FOLLOWED).map(|number| Arc::from(number.to_string())).collect();
    for uid in &uids {
        traces.follow(uid, traces.start().context.unwrap());
    }
    let told = uids.iter().filter(|uid| traces.take_followed(uid).is_some()).count();
    assert_eq!(told, FOLLOWED);
    assert_eq!(traces.take_followed(&uids[0]), None, "once");
}

#[tokio::test]
async fn without_an_endpoint_there_is_nothing() {
    let traces = Traces::default();
    let start = traces.start();
    assert_eq!(start.context, None);
    traces.ended(start, "poll", &[]);
    assert_eq!(traces.take_followed("uid"), None);
    traces.finish(Duration::from_secs(10)).await;
}

#[test]
fn an_endpoint_is_a_base_url() {
    for (text, expected) in [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
        ("https://otlp.example.com/tenant", "https://otlp.example.com/tenant/v1/traces"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), expected);
    }
    for text in ["collector:4318", "grpc://collector:4317", "http://user:password@collector", "http://c?x=y", ""] {
        assert!(text.parse::<Endpoint>().unwrap_err().contains("http://HOST:4318"), "{text}");
    }
}
