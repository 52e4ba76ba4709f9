use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::{Request, Response};
use kube::client::Body;
use tower::service_fn;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// An API server that knows tokens that begin with `good` or `poor`, and lets the good ones get everything.
#[derive(Clone, Default)]
struct ApiServer {
    reviews: Arc<AtomicU32>,
    asked: Arc<Mutex<Vec<Value>>>,
    fails: bool,
    hangs: bool,
}

impl ApiServer {
    fn authorizer(&self) -> Authorizer {
        let this = self.clone();
        let service = service_fn(move |request: Request<Body>| this.clone().answer(request));
        Authorizer::new(Client::new(service, "default"))
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        assert!(request.extensions().get::<Pass>().is_some_and(Pass::is_good), "it would not be sent");
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        if self.hangs {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let status = match path.as_str() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => {
                self.reviews.fetch_add(1, Relaxed);
                let token = review["spec"]["token"].as_str().unwrap();
                let user = token.get(..4).filter(|kind| ["good", "poor"].contains(kind));
                match user {
                    Some(user) => json!({"authenticated": true, "user": {"username": user, "groups": ["g"]}}),
                    None => json!({"error": "invalid bearer token"}),
                }
            }
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                json!({"allowed": review["spec"]["user"] == "good"})
            }
            other => panic!("{other}"),
        };
        lock(&self.asked).push(review["spec"].take());
        let code = if self.fails { 403 } else { 201 };
        Ok(Response::builder()
            .status(code)
            .body(Body::from(json!({"status": status}).to_string().into_bytes()))
            .unwrap())
    }

    fn reviews(&self) -> u32 {
        self.reviews.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_is_asked_for_by_token_and_path_and_kept_for_a_while() {
    let server = ApiServer::default();
    let authorizer = server.authorizer();
    for (token, verdict) in [("good-1", Verdict::Allowed), ("poor-1", Verdict::Forbidden), ("bad", Verdict::Unknown)] {
        assert_eq!(authorizer.known(token, "/metrics"), None);
        assert_eq!(authorizer.judge(token, "/metrics", PEER).await, Ok(verdict));
        assert_eq!(authorizer.known(token, "/metrics"), Some(verdict));
        assert_eq!(authorizer.known(token, "/debug/connections"), None, "of another path nothing is known");
    }
    let asked = lock(&server.asked)[1].clone();
    assert_eq!(asked["user"], "good");
    assert_eq!(asked["groups"], json!(["g"]));
    assert_eq!(asked["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
    tokio::time::advance(REFUSED_FOR).await;
    assert_eq!(authorizer.known("poor-1", "/metrics"), None);
    assert_eq!(authorizer.known("good-1", "/metrics"), Some(Verdict::Allowed));
    tokio::time::advance(ALLOWED_FOR).await;
    assert_eq!(authorizer.known("good-1", "/metrics"), None);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_bad_tokens_costs_little_and_shuts_out_nobody() {
    let server = ApiServer::default();
    let authorizer = server.authorizer();
    assert_eq!(authorizer.judge("good-scraper", "/metrics", PEER).await, Ok(Verdict::Allowed));
    tokio::time::advance(ALLOWED_FOR).await;
    let (before, mut refused, mut answered) = (server.reviews(), 0, 0);
    for second in 0..10 {
        for number in 0..1000 {
            let token = format!("bad-{second}-{number}");
            refused += u32::from(authorizer.judge(&token, "/metrics", PEER).await == Err(NoVerdict::TooMany));
        }
        // From the same address, with a token that has been good; and from another one, with a new token each time.
        if authorizer.known("good-scraper", "/metrics").is_none() {
            assert_eq!(authorizer.judge("good-scraper", "/metrics", PEER).await, Ok(Verdict::Allowed));
        }
        answered +=
            u32::from(authorizer.judge(&format!("good-{second}"), "/metrics", OTHER).await == Ok(Verdict::Allowed));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(server.reviews() - before <= 10 * 10, "{} reviews in ten seconds", server.reviews() - before);
    assert!(refused > 9_000 && answered >= 9, "{refused} refused, {answered} answered");
    let kept = lock(&authorizer.0.verdicts);
    assert!(kept.allowed.len() <= KEPT && kept.refused.len() <= KEPT);
}

#[tokio::test(start_paused = true)]
async fn the_kept_answers_are_bounded() {
    let mut verdicts = Verdicts::default();
    for number in 0..10 * KEPT {
        tokio::time::advance(Duration::from_millis(1)).await;
        let verdict = if number % 2 == 0 { Verdict::Allowed } else { Verdict::Unknown };
        verdicts.put(digest(&number.to_string(), "/metrics"), verdict, Instant::now());
    }
    assert_eq!((verdicts.allowed.len(), verdicts.refused.len()), (KEPT, KEPT));
    let last = digest(&(10 * KEPT - 2).to_string(), "/metrics");
    assert_eq!(verdicts.get(&last, Instant::now()), Some(Verdict::Allowed), "the oldest go");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_or_hangs_is_no_verdict() {
    for server in [ApiServer { fails: true, ..ApiServer::default() }, ApiServer { hangs: true, ..ApiServer::default() }]
    {
        let authorizer = server.authorizer();
        assert_eq!(authorizer.judge("good", "/metrics", PEER).await, Err(NoVerdict::Failed));
        assert_eq!(authorizer.known("good", "/metrics"), None, "it is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_few_reviews_are_under_way() {
    let server = ApiServer { hangs: true, ..ApiServer::default() };
    let authorizer = server.authorizer();
    let many = futures::future::join_all((0..100).map(|number| {
        let authorizer = authorizer.clone();
        async move { authorizer.judge(&format!("bad-{number}"), "/metrics", PEER).await }
    }));
    let verdicts = many.await;
    let asked = verdicts.iter().filter(|verdict| **verdict == Err(NoVerdict::Failed)).count();
    assert!((1..REVIEWS_AT_A_TIME).contains(&asked), "{asked}: places are left for others");
}
