//! The API server behind a proxy, as in companies: the environment is read as client-go reads it.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, ControlPlane, Operator, OperatorOptions, Tinyproxy, Workdir};

use crate::stage::plane;

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
    let before = proxy.connects().len();
    // By exception, also in a list that other programs cannot read; and this machine is an exception by itself.
    let list = format!("other,, {ELSEWHERE},");
    drop(operator(there, &[("https_proxy", &url), ("no_proxy", &list)]).await);
    drop(operator(plane.kubeconfig(ADMIN).unwrap(), &[("HTTPS_PROXY", "http://127.0.0.1:1")]).await);
    assert_eq!(proxy.connects().len(), before);
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
