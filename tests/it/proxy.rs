//! Behind a proxy, as in companies: the API server, where the environment is read as client-go reads it, and the upstreams.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, ControlPlane, Operator, OperatorOptions, Simulator, Tinyproxy, Workdir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::stage::{HUAWEI, SECRET, Stage, plane};

/// 127.0.0.1, written so that it does not read as a loopback address: those are never proxied.
const ELSEWHERE: &str = "2130706433";

/// A kubeconfig of the administrator; the API server at `host`, with `more` said of the cluster.
fn kubeconfig(plane: &ControlPlane, workdir: &Workdir, host: &str, more: Value) -> PathBuf {
    let text = std::fs::read_to_string(plane.kubeconfig(ADMIN).unwrap()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster["server"] = plane.url().replace("127.0.0.1", host).into();
    cluster["tls-server-name"] = "127.0.0.1".into();
    crate::stage::lay_over(cluster, more);
    workdir.write(&format!("{host}.kubeconfig"), &config.to_string()).unwrap()
}

/// An operator that must become ready. Its namespace need not exist.
async fn operator(kubeconfig: PathBuf, environment: &[(&str, &str)]) -> Operator {
    Operator::start(options(kubeconfig, environment)).await.unwrap()
}

fn options(kubeconfig: PathBuf, environment: &[(&str, &str)]) -> OperatorOptions {
    let clean = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"].map(|name| (name, ""));
    let all = clean.iter().chain(environment);
    all.fold(OperatorOptions::new(kubeconfig).args(&["--namespace", "proxied"]), |options, (key, value)| {
        options.env(key, value)
    })
}

#[tokio::test]
async fn the_api_server_is_reached_by_way_of_the_proxy_that_the_environment_names() {
    let (plane, workdir) = (plane().await, Workdir::new("proxy").unwrap());
    let proxy = Tinyproxy::start().await.unwrap();
    let url = format!("http://{}", proxy.address());
    let target = plane.url().replace("https://127.0.0.1", ELSEWHERE);
    let there = kubeconfig(plane, &workdir, ELSEWHERE, json!({}));
    {
        let _operator = operator(there.clone(), &[("HTTPS_PROXY", &url)]).await;
        let connects = proxy.connects();
        assert!(!connects.is_empty() && connects.iter().all(|to| *to == target), "{connects:?}");
    }
    // Another one, of which nothing can be on its way yet. By exception, also in a list that other programs cannot read; and this machine is an exception by itself.
    let unused = Tinyproxy::start().await.unwrap();
    let url = format!("http://{}", unused.address());
    let list = format!("other,, {ELSEWHERE},");
    drop(operator(there, &[("https_proxy", &url), ("no_proxy", &list)]).await);
    drop(operator(plane.kubeconfig(ADMIN).unwrap(), &[("HTTPS_PROXY", "http://127.0.0.1:1")]).await);
    assert_eq!(unused.connects(), Vec::<String>::new());
}

#[tokio::test]
async fn the_kubeconfigs_proxy_goes_before_the_environment_and_may_ask_for_a_password() {
    let (plane, workdir) = (plane().await, Workdir::new("proxy").unwrap());
    let proxy = Tinyproxy::with_password("user", "pass1").await.unwrap();
    let url = format!("http://user:p%61ss1@{}", proxy.address());
    let there = kubeconfig(plane, &workdir, "127.0.0.1", json!({"proxy-url": url}));
    let started = operator(there, &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")]).await;
    assert!(!proxy.connects().is_empty());
    let log = started.process().log();
    assert!(log.contains("by way of a proxy") && !log.contains("p%61ss1") && !log.contains("pass1"), "{log}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let (plane, workdir) = (plane().await, Workdir::new("proxy").unwrap());
    let there = kubeconfig(plane, &workdir, ELSEWHERE, json!({}));
    let wrong = Operator::spawn(&options(there, &[("HTTPS_PROXY", "ftp://user:hidden@proxy:1")])).unwrap();
    let exit = wrong.process().wait(Duration::from_secs(60)).await.unwrap();
    let log = wrong.process().log();
    assert_eq!(exit.code, Some(1), "{log}");
    assert!(log.contains("HTTPS_PROXY cannot be used") && !log.contains("hidden"), "{log}");
}

/// A proxy to which every host is the simulator: a name that the public DNS does not have is resolved nowhere else. Returns its address.
async fn parent(plain: String, tls: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, plain.clone(), tls.clone()));
        }
    });
    address
}

async fn pass_on(mut client: TcpStream, plain: String, tls: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let mut upstream = if head.starts_with(b"CONNECT ") {
        client.write_all(b"HTTP/1.0 200 Connection established\r\n\r\n").await?;
        TcpStream::connect(tls).await?
    } else {
        let mut upstream = TcpStream::connect(plain).await?;
        upstream.write_all(&head).await?;
        upstream
    };
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

#[tokio::test]
async fn upstreams_are_reached_through_the_proxy_that_a_flag_names() {
    const NAME: &str = "api.example.com";
    let workdir = Workdir::new("proxy").unwrap();
    let ca_file = workdir.path().join("ca.pem");
    let mut stage = Stage::new("proxy-upstreams").await;
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-name", NAME, "--ca-file", ca_file.to_str().unwrap()];
    stage.simulator = Simulator::start(&tls).await.unwrap();
    let simulator = stage.simulator.announcement().clone();
    let at = |key: &str| simulator[key].as_str().unwrap().split_once("://").unwrap().1.to_owned();
    let parent = parent(at("listening"), at("tlsListening")).await;
    let proxy = Tinyproxy::before(&parent, "user", "pass1").await.unwrap();
    let url = format!("http://user:p%61ss1@{}", proxy.address());
    let operator = stage.operator(&["--upstream-proxy", &url, "--allow-http"]).await;

    let token = json!({"kind": "token", "token": SECRET});
    let password = json!({"kind": "password", "user": "u", "password": SECRET, "domain": "d"});
    stage.scope(HUAWEI, "own", json!([token, password])).await;
    stage.task(HUAWEI, "own", "task", json!([{"state": "RUNNING"}])).await;
    stage.secret("own", json!({"token": SECRET, "username": "u", "password": SECRET, "domain": "d"})).await;
    let secret = json!({"name": "own"});
    let (http, https) = (format!("http://{NAME}"), format!("https://{NAME}"));
    let (token, here) = (json!({"token": {"secretRef": secret}}), stage.simulator.url().to_owned());
    let keystone = json!({"keystone": {"endpoint": http, "secretRef": secret, "project": {"name": "own"}}});
    let bundle = std::fs::read_to_string(&ca_file).unwrap();
    let cases =
        [("local", &here, &token), ("plain", &http, &token), ("secure", &https, &token), ("half", &https, &keystone)];
    for (name, endpoint, auth) in cases {
        let tls = if endpoint == &https { json!({"caBundle": bundle}) } else { json!({}) };
        let more = json!({"provider": {HUAWEI: {"endpoint": endpoint}}, "tls": tls});
        stage.connection(name, HUAWEI, "own", auth.clone(), more).await;
        stage.watch(name, name, "task", json!({})).await;
        stage.until_row(name, "Running Unknown/TaskRunning False True/Observed Unknown R").await;
    }

    // By CONNECT or by forwarded requests; what is on this machine, not at all.
    let [connects, gets, posts] = ["CONNECT", "GET", "POST"].map(|method| proxy.asked(method));
    assert!(!connects.is_empty() && connects.iter().all(|to| *to == format!("{NAME}:443")), "{connects:?}");
    assert!(!gets.is_empty() && gets.iter().all(|url| url.starts_with(&format!("{http}/"))), "{gets:?}");
    assert!(!posts.is_empty() && posts.iter().all(|url| url.starts_with(&format!("{http}/v3/"))), "{posts:?}");
    // Whose credential can be read on the way is told so. On this machine, there is none.
    for (name, insecure) in [("local", false), ("plain", true), ("secure", false), ("half", true)] {
        let said = stage.until_connection(name, "Connected").await;
        assert_eq!(said.contains("its credential included, can be read on the way"), insecure, "{name}: {said}");
    }
    let log = operator.process().log();
    assert!(!log.contains("pass1") && !log.contains("p%61ss1") && !log.contains(SECRET), "{log}");
}
