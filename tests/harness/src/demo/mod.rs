//! The demo: the operator at work on a real API server, against the simulator of the three systems.
//!
//! What it applies stands in `tests/harness/demo/`: the manifests, each `TaskWatch` with the state that it is expected to reach and each
//! `TaskWatchSet` with what it is expected to find, and the scenario by which the simulator's tasks move. What is in `later/` comes some
//! seconds after the rest.

mod cluster;
mod rights;
pub(crate) mod scenes;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{Operator, OperatorOptions, Simulator, interrupt};
use cluster::Cluster;
use scenes::{Scenes, Verdict};

/// The namespace of the demo's objects.
pub(crate) const NAMESPACE: &str = "taskwatch-demo";
/// Where the Secrets of its `ClusterTaskConnection` are.
const SYSTEM_NAMESPACE: &str = "taskwatch-demo-system";

/// So long after the rest comes what is applied later.
const LATER: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest scene ends after about 70 s.
const LIMIT: Duration = Duration::from_mins(5);

/// What is shown: the watches of the manifests, the sets, and the watches that the sets keep.
const TABLES: [&[&str]; 3] = [
    &["taskwatches", "--selector", "!taskwatch.dev/set"],
    &["taskwatchsets"],
    &["taskwatches", "--selector", "taskwatch.dev/set"],
];

/// How the demo is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// End by itself when every watch and set has reached its state, and fail when one does not.
    pub once: bool,
    /// Use the cluster of the current kubectl context instead of starting one.
    pub current_cluster: bool,
}

/// Runs the demo until it is interrupted, or until every watch and set has reached its state with [`Options::once`].
///
/// # Errors
/// When a part does not start, or a watch or set does not reach the state that its scene expects.
pub async fn run(options: Options) -> Result<()> {
    let mut cluster = None;
    let played = tokio::select! {
        played = play(options, &mut cluster) => played,
        interrupted = interrupt() => interrupted.and_then(|()| if options.once { bail!("interrupted") } else { Ok(()) }),
    };
    step("Cleaning up (some seconds)");
    let cleaned = match cluster {
        Some(cluster) => tokio::select! {
            cleaned = Cluster::clean_up(cluster) => cleaned,
            again = interrupt() => again.and_then(|()| bail!("interrupted again: the clean-up is not complete")),
        },
        None => Ok(()),
    };
    played.and(cleaned)
}

async fn play(options: Options, slot: &mut Option<Cluster>) -> Result<()> {
    let cluster = if options.current_cluster {
        step("Using the cluster of the current kubectl context");
        slot.insert(Cluster::current().await?)
    } else {
        step("Starting etcd and kube-apiserver (about 10 s)");
        slot.insert(Cluster::start().await?)
    };
    step("Applying the CRDs (some seconds)");
    cluster.apply_crds().await?;

    step("Starting the simulator of Cloud.ru, Huawei Cloud and Astra Control (a second)");
    let scenes = Scenes::read()?;
    let simulator = Simulator::start(&["--scenario", &scenes.scenario().display().to_string()]).await?;
    println!("    it listens on {}", simulator.url());

    step("Creating namespaces, and the operator's service account with the rights of deploy/");
    scenes.apply_first(cluster.kubectl()).await?;
    let kubeconfig = cluster.grant().await?;

    step("Starting the operator (some seconds)");
    // Progress is written sooner than in earnest, for the eye.
    let arguments =
        ["--cluster-resource-namespace", SYSTEM_NAMESPACE, "--progress-min-seconds", "1", "--progress-min-points", "1"];
    let operator_options = OperatorOptions::new(kubeconfig).args(&arguments);
    let operator = Operator::start(operator_options).await?;
    println!("    metrics: {}/metrics, log: {}", operator.metrics_url(), operator.process().log_path().display());

    step("Creating Secrets, connections, TaskWatches and a TaskWatchSet");
    for line in scenes.apply(cluster.kubectl(), &simulator, SYSTEM_NAMESPACE).await?.lines() {
        println!("    {line}");
    }

    println!("\n    To look from another terminal:");
    println!("      export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("      {} --namespace {NAMESPACE} get taskwatches,taskwatchsets --output wide", cluster.kubectl_program());

    step(
        "TaskWatches, TaskWatchSets and the TaskWatches that these keep: each table again when it changes (the last ends after about 70 s)",
    );
    watch(options, cluster, &operator, &scenes).await
}

/// Shows the tables as they change, and judges the scenes.
async fn watch(options: Options, cluster: &Cluster, operator: &Operator, scenes: &Scenes) -> Result<()> {
    let started = Instant::now();
    let mut shown = TABLES.map(|_| String::new());
    let (mut done, mut later) = (false, false);
    let mut progress = scenes::Progress::default();
    loop {
        if let Some(exit) = operator.process().exit() {
            bail!("the operator ended ({exit:?}); the end of its log:\n{}", operator.process().log_tail(30));
        }
        let mut fresh = Vec::new();
        for (table, shown) in TABLES.into_iter().zip(&mut shown) {
            let table = cluster.get(table).await?;
            let without_age = without_last_column(&table);
            if without_age != *shown {
                fresh.push(table.trim_end().to_owned());
                *shown = without_age;
            }
        }
        if !fresh.is_empty() {
            println!("\n-- after {} s\n{}", started.elapsed().as_secs(), fresh.join("\n\n"));
        }
        if !later && started.elapsed() >= LATER {
            later = true;
            for line in scenes.apply_later(cluster.kubectl()).await?.lines() {
                println!("    {line}");
            }
        }
        for event in progress.new_events(cluster.kubectl()).await? {
            println!("   event: {event}");
        }
        match scenes.judge(cluster.kubectl(), &mut progress).await? {
            Verdict::Reached if !done => {
                done = true;
                for table in TABLES {
                    println!("\n{}", cluster.get(&[table, &["--output", "wide"]].concat()).await?.trim_end());
                }
                println!(
                    "\nEvery watch has reached the state that its scene expects, and the set has found its tasks, after {} s.",
                    started.elapsed().as_secs()
                );
                if options.once {
                    return Ok(());
                }
                println!("All of it stays up until you press Ctrl-C.");
            }
            Verdict::Missing(what) if options.once && started.elapsed() > LIMIT => {
                let log = operator.process().log_tail(30);
                bail!("not within {LIMIT:?}:\n  {}\nthe end of the operator's log:\n{log}", what.join("\n  "));
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn step(text: &str) {
    println!("\n==> {text}");
}

/// The age changes all the time and is no news.
fn without_last_column(table: &str) -> String {
    let rows = table
        .lines()
        .map(|row| row.trim_end().rsplit_once(char::is_whitespace).map_or(row, |(rest, _)| rest.trim_end()));
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_no_news() {
        let one = "NAME   STATE     AGE\na      Running   8s\n";
        let two = "NAME   STATE     AGE\na      Running   12s\n";
        assert_eq!(without_last_column(one), without_last_column(two));
        assert_ne!(without_last_column(one), without_last_column(&two.replace("Running", "Paused ")));
    }
}
