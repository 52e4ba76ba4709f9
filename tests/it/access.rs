//! Who may read the pages of the operator: by the real API server, with tokens that it has made, over TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use taskwatch_harness::{OPERATOR, Operator, OperatorOptions, Workdir, eventually, workspace_root};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, timeout},
};

use crate::stage::{HUAWEI, SECRET, SOON, Stage};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
/// The name in the certificate.
const NAME: &str = "taskwatch.taskwatch-system.svc";

/// A certificate in files, as cert-manager leaves it, and the authority that it is trusted by.
struct Certified {
    workdir: Workdir,
}

impl Certified {
    fn path(&self, name: &str) -> String {
        self.workdir.path().join(name).display().to_string()
    }

    fn renew(&self) -> Arc<ClientConfig> {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        self.workdir.write("tls.crt", &cert.pem()).unwrap();
        self.workdir.write("tls.key", &signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Who asks, and how.
struct Client<'a> {
    from: &'a str,
    tls: &'a Arc<ClientConfig>,
    to: &'a Operator,
}

impl Client<'_> {
    /// The whole answer.
    async fn get(&self, path: &str, token: Option<&str>) -> Result<String> {
        let to: SocketAddr = self.to.metrics_url().trim_start_matches("http://").parse()?;
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{token}\r\n", to.port());
        let exchange = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(self.from.parse()?, 0))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(self.tls));
            let mut stream = connector.connect(NAME.try_into()?, socket.connect(to).await?).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(Duration::from_secs(10), exchange).await?
    }

    async fn status(&self, path: &str, token: Option<&str>) -> Result<u16> {
        let answer = self.get(path, token).await?;
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| answer.clone())
    }
}

/// A service account that may get these paths, and a token of it.
async fn account(stage: &Stage, name: &str, paths: &[&str]) -> String {
    let namespace = &stage.namespace;
    stage.put(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})).await;
    let kubectl = async |args: &[&str]| stage.plane.kubectl(args).await.unwrap().success().unwrap();
    let role = format!("{namespace}-{name}");
    let account = format!("--serviceaccount={namespace}:{name}");
    if !paths.is_empty() {
        let paths: Vec<_> = paths.iter().map(|path| format!("--non-resource-url={path}")).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        kubectl(&[&["create", "clusterrole", &role, "--verb=get"], &paths[..]].concat()).await;
        kubectl(&["create", "clusterrolebinding", &role, &format!("--clusterrole={role}"), &account]).await;
    }
    kubectl(&["create", "token", name, "--namespace", namespace]).await.trim().to_owned()
}

#[tokio::test]
async fn metrics_are_for_those_who_may_get_them() {
    let stage = Stage::new("metrics-access").await;
    let scraper = account(&stage, "scraper", &["/metrics"]).await;
    let other = account(&stage, "other", &[]).await;
    let debugger = account(&stage, "debugger", &["/debug/connections"]).await;
    let files = Certified { workdir: Workdir::new("certificate").unwrap() };
    let tls = files.renew();
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    // As the operator's own account: what it may is what deploy/ says.
    let options = OperatorOptions::new(stage.plane.kubeconfig(OPERATOR).unwrap());
    let secure = ["--http-authorization", "--http-tls-cert", &certificate, "--http-tls-key", &key];
    let operator = Operator::spawn(&options.args(&["--namespace", &stage.namespace]).args(&secure)).unwrap();
    let local = Client { from: "127.0.0.1", tls: &tls, to: &operator };
    let remote = Client { from: "127.0.0.2", tls: &tls, to: &operator };
    let until = async |path: &str, token: Option<&str>, status: u16| {
        let reached = async || {
            let now = remote.status(path, token).await?;
            ensure!(now == status, "{path} answers {now}");
            Ok(())
        };
        eventually(SOON, "the answer that is right", reached).await.unwrap();
    };
    until("/metrics", None, 401).await;
    assert!(remote.get("/metrics", None).await.unwrap().contains("\r\nwww-authenticate: Bearer\r\n"));
    // Without the right to ask who that is.
    until("/metrics", Some(&scraper), 503).await;
    let log = operator.process().log();
    assert!(log.contains("who asks for metrics cannot be reviewed") && log.contains("metrics-authorization"), "{log}");
    let roles = workspace_root().join("deploy/components/metrics-authorization/roles.yaml").display().to_string();
    stage.plane.kubectl(&["apply", "--server-side", "--filename", &roles]).await.unwrap().success().unwrap();
    until("/metrics", Some(&scraper), 200).await;
    for (path, token, status) in [
        ("/metrics", Some(&*scraper), 200),
        ("/metrics", Some(&*other), 403),
        ("/metrics", Some("not-a-token"), 401),
        ("/metrics", None, 401),
        ("/debug/connections", Some(&*scraper), 403),
        ("/debug/connections", Some(&*debugger), 200),
        ("/debug/connections", None, 401),
        ("/metrics", Some(&*debugger), 403),
    ] {
        assert_eq!(remote.status(path, token).await.unwrap(), status, "{path}");
    }
    // From the pod itself the one page is open, and the other is not.
    assert_eq!(local.status("/debug/connections", None).await.unwrap(), 200);
    assert_eq!(local.status("/metrics", None).await.unwrap(), 401);
    assert!(remote.get("/metrics", Some(&scraper)).await.unwrap().contains("taskwatch_build_info"));

    // The names of the roles are those that the operator's log and the pages tell.
    let log = operator.process().log();
    for token in [&scraper, &other, &debugger] {
        assert!(!log.contains(token.as_str()), "a token is in the log");
    }

    flood(&operator, &remote, &scraper).await;

    // A new certificate is shown without a restart.
    let renewed = files.renew();
    let client = Client { tls: &renewed, ..remote };
    let shown = async || client.status("/metrics", Some(&scraper)).await;
    assert_eq!(eventually(SOON, "the new certificate is shown", shown).await.unwrap(), 200);
}

/// Bad tokens without end, from another address: they cost the API server little, and others have their answers.
async fn flood(operator: &Operator, scraper: &Client<'_>, token: &str) {
    let posts = async || {
        let page = scraper.get("/metrics", Some(token)).await.unwrap();
        let lines = page
            .lines()
            .filter(|line| line.starts_with("rest_client_requests_total") && line.contains("method=\"POST\""));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    let (before, began) = (posts().await, Instant::now());
    let attacker = Client { from: "127.0.0.3", ..*scraper };
    let (mut answered, mut limited) = (0, 0);
    while began.elapsed() < Duration::from_secs(5) {
        let tokens: Vec<_> = (0..20).map(|number| format!("bad-{answered}-{number}")).collect();
        let tries = tokens.iter().map(|token| attacker.status("/metrics", Some(token)));
        for status in futures::future::join_all(tries).await.into_iter().flatten() {
            answered += 1;
            limited += u32::from(status == 429);
            assert!(status == 401 || status == 429, "{status}");
        }
        // A connection may have to give way to others; the next try is answered.
        let is_served = async || {
            let status = scraper.status("/metrics", Some(token)).await?;
            ensure!(status == 200, "{status}");
            Ok(())
        };
        eventually(SOON, "others are answered meanwhile", is_served).await.unwrap();
        let probe = Instant::now();
        assert_eq!(operator.get("/healthz").await.unwrap().0, 200);
        assert!(probe.elapsed() < Duration::from_secs(1), "{:?}", probe.elapsed());
    }
    let (spent, seconds) = (posts().await - before, began.elapsed().as_secs_f64());
    assert!(limited > 0, "no flood: {answered} answers");
    // Ten reviews a second at most; the first window is a whole one.
    assert!(spent <= 10.0 * (seconds + 1.0), "{spent} requests in {seconds} s, for {answered} bad tokens");
}

#[tokio::test]
async fn what_a_connection_does_next_is_told_in_plain_words() {
    let stage = Stage::new("debug-connections").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let operator = stage.operator(&[]).await;
    stage.until_row("task", RUNNING).await;
    let (status, text) = operator.get("/debug/connections?name=evs").await.unwrap();
    assert_eq!(status, 200);
    assert!(text.starts_with(&format!("TaskConnection {}/evs (huaweiCloud)\n", stage.namespace)), "{text}");
    for sentence in [
        "no poll is due yet",
        "Next: a task of debug-connections (due in",
        "Polls 1 task.",
        "The last useful answer came",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
    let (status, json) = operator.get("/debug/connections?format=json").await.unwrap();
    assert_eq!(status, 200);
    assert!(!text.contains(SECRET) && !json.contains(SECRET));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let [connection] = &json["connections"].as_array().unwrap()[..] else { panic!("{json}") };
    let uid = stage.api("TaskWatch", None).get("task").await.unwrap().metadata.uid.unwrap();
    assert_eq!(connection["next"][0]["watchedBy"], json!([uid]));
    assert_eq!(connection["wait"]["reason"], "Due");
    let (status, text) = operator.get("/debug/connections?namespace=elsewhere").await.unwrap();
    assert_eq!((status, text.contains("no such connection")), (200, true), "{text}");
    let (status, text) = operator.get("/debug/connections?secret=evs").await.unwrap();
    assert_eq!((status, text.contains("give namespace=")), (400, true), "{text}");

    // One that is not open says why: its Secret is gone.
    stage
        .change("TaskConnection", "evs", json!({"spec": {"auth": {"token": {"secretRef": {"name": "missing"}}}}}))
        .await;
    let closed = async || {
        let (_, text) = operator.get("/debug/connections?name=evs").await?;
        ensure!(text.contains("Asks nothing: SecretNotFound"), "{text}");
        Ok(())
    };
    eventually(SOON, "it is said why it is closed", closed).await.unwrap();
}
