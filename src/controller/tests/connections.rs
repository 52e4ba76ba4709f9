//! The life of a connection: what it is made of, when that is read again, and what becomes of those who use it.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    cluster::Fault,
    stage::{Stage, encoded, pass, time, until},
};
use crate::{engine::tests::upstream::Instead, ops::debug::Question};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";
const C: &str = "taskconnections/n/c";

async fn with_a_watch() -> Stage {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({}));
    stage
}

fn set_token(stage: &Stage, token: &str) {
    stage.cluster.edit("secrets/n/s", |secret| secret["data"]["token"] = json!(encoded(token)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_again_and_another_credential_asks_for_everything_anew() {
    let stage = with_a_watch().await;
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    let by = |credential: &str, asked: &[(String, String)]| asked.iter().filter(|(_, by)| by == credential).count();
    pass(100).await;
    let asked = stage.upstream.asked_by();
    assert_eq!(by("Bearer token-of-the-first-secret", &asked), asked.len());
    let reads = stage.cluster.asked("GET secrets n/s");
    assert!((4..=8).contains(&reads), "each half a minute: {reads}");
    set_token(&stage, "token-of-the-second-secret");
    pass(31).await;
    stage.upstream.asked_by();
    pass(40).await;
    let asked = stage.upstream.asked_by();
    assert!(asked.len() > 3);
    assert_eq!(by("Bearer token-of-the-second-secret", &asked), asked.len());
    // One that is gone is told, and those that use it are asked for no more; when it is there again, they are.
    let secret = stage.cluster.get("secrets/n/s").unwrap();
    stage.cluster.delete("secrets/n/s");
    stage.ready(C, "False SecretNotFound", "Secret n/s does not exist: create it").await;
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/SecretNotFound").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    stage.cluster.create("secrets", secret);
    stage.says("w", RUNNING).await;
    stage.ready(C, "True Connected", "").await;
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_api_server_is_believed_at_once_only_where_nothing_was_read_before() {
    let stage = with_a_watch().await;
    stage.cluster.fail("GET secrets n/s", 1, Fault::Refused(403, "Forbidden"));
    let _operator = stage.begin(&[]);
    stage
        .ready(
            C,
            "False SecretNotFound",
            "bind the ClusterRole taskwatch-secret-reader to its service account in namespace n",
        )
        .await;
    assert_eq!(stage.cluster.asked("GET secrets n/s"), 1);
    stage.says("w", RUNNING).await;
    // Five in a row are no accident.
    let before = stage.cluster.asked("GET secrets n/s");
    stage.cluster.fail("GET secrets n/s", 9, Fault::Refused(403, "Forbidden"));
    until("a refusal", || (stage.cluster.asked("GET secrets n/s") > before).then_some(()), || "").await;
    let first = Instant::now();
    stage.ready(C, "False SecretNotFound", "taskwatch-secret-reader").await;
    assert!(stage.cluster.asked("GET secrets n/s") - before >= 6);
    let took = first.elapsed().as_secs();
    assert!((15..=33).contains(&took), "{took}");
    stage.cluster.heal();
    stage.says("w", RUNNING).await;
    // Another trouble is nothing to tell: it is only tried again.
    let (before, version) =
        (stage.cluster.asked("GET secrets n/s"), || stage.cluster.get(C).unwrap()["status"]["conditions"].clone());
    let told = version();
    stage.cluster.fail("GET secrets n/s", 2, Fault::Refused(500, "InternalError"));
    until("three reads", || (stage.cluster.asked("GET secrets n/s") == before + 3).then_some(()), || "").await;
    assert_eq!(version(), told);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_is_made_of_is_named_where_it_is_missing_or_wrong() {
    let stage = Stage::new().await;
    let spec = |edit: &dyn Fn(&mut Value)| {
        stage.cluster.edit(C, |object| edit(&mut object["spec"]));
    };
    let _operator = stage.begin(&[]);
    stage.ready(C, "True Idle", "").await;
    spec(&|spec| spec["tls"] = json!({"caBundleRef": {"name": "ca"}}));
    stage.ready(C, "False SecretNotFound", "ConfigMap n/ca does not exist: create it").await;
    stage.cluster.create("configmaps", json!({"metadata": {"name": "ca", "namespace": "n"}, "data": {"other": "x"}}));
    stage
        .ready(C, "False SecretNotFound", "ConfigMap n/ca has no key ca.crt: add it, or correct spec.tls.caBundleRef")
        .await;
    // Of http:// there is nothing to verify; of https:// it is read.
    stage.cluster.edit("configmaps/n/ca", |map| map["binaryData"] = json!({"ca.crt": encoded("no certificate")}));
    stage.ready(C, "True Idle", "").await;
    spec(&|spec| spec["provider"]["astraControl"]["endpoint"] = json!("https://127.0.0.1:1"));
    stage.ready(C, "False InvalidSpec", "holds no certificate").await;
    spec(&|spec| spec["tls"] = json!({"caBundleRef": {"kind": "Secret", "name": "s", "key": "token"}}));
    stage.ready(C, "False InvalidSpec", "holds no certificate").await;
    spec(&|spec| spec["tls"] = json!({"caBundleRef": {"kind": "Secret", "name": "s"}}));
    stage.ready(C, "False SecretNotFound", "Secret n/s has no key ca.crt").await;
    spec(&|spec| {
        spec["tls"] = json!({});
        spec["auth"] = json!({});
    });
    stage.ready(C, "False InvalidSpec", "spec.auth names no credential, or more than one: give exactly one").await;
    spec(&|spec| spec["auth"] = json!({"token": {"secretRef": {"name": "typed"}}}));
    stage.cluster.create("secrets", json!({"metadata": {"name": "typed", "namespace": "n"}, "type": "kubernetes.io/service-account-token", "data": {"token": encoded("x")}}));
    stage.ready(C, "False", "service-account-token").await;
}

#[tokio::test(start_paused = true)]
async fn who_uses_a_connection_learns_that_it_is_gone_and_that_it_is_there_again() {
    let stage = with_a_watch().await;
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    let connection = stage.connection("c");
    stage.cluster.delete(C);
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    stage.cluster.create("taskconnections", connection);
    stage.says("w", RUNNING).await;
    stage.ready(C, "True Connected", "").await;
    // A status that somebody else wrote is written again.
    stage.cluster.edit(C, |object| object["status"]["conditions"] = json!([]));
    stage.ready(C, "True Connected", "").await;
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_upstream_is_told_and_so_is_its_end() {
    let stage = with_a_watch().await;
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.ready(C, "True Connected", "").await;
    let up = |operator: &super::stage::Operator| operator.metric(r#"taskwatch_connection_up{provider="astraControl"}"#);
    let before = up(&operator);
    stage.upstream.instead("get", Instead::Answer(429, &[("Retry-After", "120")], "{}".to_owned()));
    stage.ready(C, "False RateLimited", "").await;
    let asked_until = stage.cluster.now() + std::time::Duration::from_secs(120);
    let told = time(&stage.cluster.get(C).unwrap(), "/status/retryAfterTime").unwrap();
    assert!((told.duration_since(asked_until).as_secs()).abs() <= 2, "{told} {asked_until}");
    stage.upstream.asked();
    // Another process keeps to it, too.
    pass(10).await;
    operator.end().await.unwrap();
    let operator = stage.begin(&[]);
    pass(100).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    stage.ready(C, "True Connected", "").await;
    assert!(stage.cluster.now() >= told);
    assert_eq!(stage.cluster.get(C).unwrap().pointer("/status/retryAfterTime"), None);
    assert_eq!(up(&operator), before);
    // A silence that is over soon is not told.
    stage.upstream.instead("get", Instead::Answer(429, &[("Retry-After", "5")], "{}".to_owned()));
    stage.ready(C, "False RateLimited", "").await;
    assert_eq!(stage.cluster.get(C).unwrap().pointer("/status/retryAfterTime"), None);
    stage.ready(C, "True Connected", "").await;
}

#[tokio::test(start_paused = true)]
async fn a_token_serves_until_it_is_refused_or_nearly_over() {
    let stage = Stage::bare().await;
    stage.cluster.create(
        "secrets",
        json!({"metadata": {"name": "s", "namespace": "n"}, "data": {
        "username": encoded("user"), "password": encoded("a long password"), "domain": encoded("domain")}}),
    );
    let mut connection = stage.connection("c");
    let endpoint = stage.upstream.endpoint();
    connection["spec"]["provider"] = json!({"huaweiCloud": {"endpoint": endpoint, "projectID": "own"}});
    connection["spec"]["auth"] = json!({"keystone": {"endpoint": endpoint, "secretRef": {"name": "s"}}});
    stage.cluster.create("taskconnections", connection);
    stage.upstream.set("t", "RUNNING", &json!({}));
    stage.watch("w", "t", &json!({}));
    let operator = stage.begin(&[]);
    stage.says("w", "Running Finished False/TaskRunning Synced True/Observed").await;
    pass(60).await;
    let asked = stage.upstream.asked_by();
    assert_eq!(asked[0], ("token".to_owned(), String::new()));
    assert!(
        asked.len() > 6
            && asked[1..].iter().all(|asked| *asked == ("job t".to_owned(), "issued-token-number-1".to_owned())),
        "{asked:?}"
    );
    stage.upstream.instead("job t", Instead::Answer(401, &[], "{}".to_owned()));
    until("another token", || (stage.upstream.count("token") == 1).then_some(()), || "").await;
    pass(30).await;
    let asked = stage.upstream.asked_by();
    let issued: Vec<_> = asked.iter().map(|(line, by)| format!("{line} {by}")).collect();
    assert_eq!(issued[..3], ["job t issued-token-number-1", "token ", "job t issued-token-number-2"]);
    assert_eq!(asked.iter().filter(|(line, _)| line == "token").count(), 1);
    // An hour is over before the token is.
    pass(3600).await;
    assert_eq!(stage.upstream.count("token"), 1);
    stage.says("w", "Running Finished False/TaskRunning Synced True/Observed").await;
    assert_eq!(
        operator
            .metric(r#"taskwatch_upstream_requests_total{provider="huaweiCloud",operation="authenticate",code="201"}"#),
        Some(3)
    );
}

#[tokio::test(start_paused = true)]
async fn no_connection_leads_to_the_endpoints_of_the_api_server() {
    for of in ["service", "slice"] {
        let stage = with_a_watch().await;
        let port: u16 = stage.upstream.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        let (service, slice) = if of == "service" { (port, 1) } else { (1, port) };
        stage.cluster.create(
            "services",
            json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIPs": ["127.0.0.1"], "ports": [{"port": service}]}}),
        );
        stage.cluster.create(
            "endpointslices",
            json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"port": slice}]}),
        );
        let operator = stage.begin(&[]);
        stage.ready(C, "False EgressDenied", "").await;
        assert_eq!(stage.upstream.asked(), Vec::<String>::new(), "{of}");
        // They change when nodes of the control plane do, which is seen after a while.
        stage.cluster.delete("endpointslices/default/kubernetes");
        stage.cluster.edit("services/default/kubernetes", |service| service["spec"]["ports"] = json!([{"port": 1}]));
        stage.says("w", RUNNING).await;
        operator.end().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_what_each_connection_does() {
    let stage = with_a_watch().await;
    stage.cluster.create("taskconnections", stage.connection("b"));
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    let ask = |namespace: Option<&str>, name: Option<&str>, json| {
        let [namespace, name] = [namespace, name].map(|text| text.map(str::to_owned));
        operator.debug.ask(Question { namespace, name, json })
    };
    let named = |page: &str| -> Vec<_> {
        page.lines().filter_map(|line| line.split_once(" n/")).map(|(_, name)| name[..1].to_owned()).collect()
    };
    let all = ask(None, None, false).await.unwrap();
    assert_eq!(named(&all), ["b", "c"], "{all}");
    assert_eq!(named(&ask(Some("n"), Some("c"), false).await.unwrap()), ["c"]);
    for (namespace, name) in [("n", "other"), ("other", "c")] {
        let page = ask(Some(namespace), Some(name), false).await.unwrap();
        assert!(page.starts_with("There is no such connection"), "{page}");
    }
    let page: Value = serde_json::from_str(&ask(None, Some("b"), true).await.unwrap()).unwrap();
    assert_eq!((&page["connections"][0]["name"], &page["leftOut"]), (&json!("b"), &json!(0)), "{page}");
}

#[tokio::test(start_paused = true)]
async fn what_the_administrator_denies_is_not_used() {
    for flag in ["--deny-provider=astraControl", "--deny-auth=token"] {
        let stage = with_a_watch().await;
        let _operator = stage.begin(&[flag]);
        let (name, _) = flag.split_once('=').unwrap();
        stage.ready(C, "False InvalidSpec", name).await;
        pass(30).await;
        assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_went_while_nobody_listened_has_gone() {
    let stage = with_a_watch().await;
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.cluster.delete_unheard(C);
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_how_many_connections_are_left_out() {
    let stage = Stage::new().await;
    for number in 0..101 {
        stage.cluster.create("taskconnections", stage.connection(&format!("d{number:03}")));
    }
    let operator = stage.begin(&[]);
    stage.ready("taskconnections/n/d100", "True Idle", "").await;
    let ask = |json| operator.debug.ask(Question { namespace: Some("n".to_owned()), name: None, json });
    let page = ask(false).await.unwrap();
    assert!(page.ends_with("2 more are left out: give namespace= and name=.\n"), "{page}");
    let page: Value = serde_json::from_str(&ask(true).await.unwrap()).unwrap();
    assert_eq!((page["connections"].as_array().unwrap().len(), &page["leftOut"]), (100, &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_which_replica_asks_nothing() {
    let stage = with_a_watch().await;
    let flags = &["--lease-buckets=1", "--lease=n/taskwatch"];
    let first = stage.begin(flags);
    stage.says("w", RUNNING).await;
    let second = stage.begin(flags);
    until("it is ready", || second.health.ready().ok(), || second.health.ready().unwrap_err()).await;
    let all = || Question { namespace: None, name: None, json: false };
    let pages = [first.debug.ask(all()).await.unwrap(), second.debug.ask(all()).await.unwrap()];
    let has_lease = |page: &String| !page.contains("this replica does not hold the Lease of bucket 0");
    assert_eq!(pages.each_ref().map(has_lease), [true, false], "{pages:?}");
}
