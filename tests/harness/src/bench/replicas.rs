//! B12: three replicas that share the connections, beside one that serves them all; and what is missed when one of the three goes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::fleet::{Fleet, OPERATORS, System};
use super::lag::Lookout;
use super::report::{Figure, Goal, Report, quantile};
use super::stage::{Asked, Stage, Window};
use super::{Options, count, gets, lists, megabytes, step};
use crate::eventually;

const REPLICAS: usize = 3;
const BUCKETS: usize = 16;
const CONNECTIONS: usize = 96;
/// Changes of state of a measurement of the lag.
const FLIPS: usize = 100;
/// Until all have their first status, and the buckets are divided.
const START: Duration = Duration::from_mins(3);

/// What so many replicas cost, and how they do.
struct Measured {
    used: Window,
    /// Of single requests.
    period: f64,
    /// Of changes that lists show.
    lag: f64,
    /// Bytes of the largest replica.
    memory: u64,
    /// What the busiest replica sends of all requests.
    largest_share: f64,
}

pub(super) async fn play(options: &Options, report: &mut Report) -> Result<()> {
    let fleets = fleets(options);
    let (stage, one) = measured(options, &fleets, 1).await?;
    stage.stop().await?;
    let (mut stage, three) = measured(options, &fleets, REPLICAS).await?;
    // With 16 buckets and three replicas, one of them has six.
    let share = count(BUCKETS.div_ceil(REPLICAS)) / count(BUCKETS);
    report.add(
        Figure::new("B12", "share of the busiest of three replicas", three.largest_share, "")
            .floor(share)
            .goal(Goal::RatioAtMost(1.3))
            .checked(),
    );
    let mut beside = |name, unit, three: f64, one: f64, goal| {
        report.add(Figure::new("B12", name, three, unit).floor(one).goal(Goal::RatioAtMost(goal)).checked());
    };
    let requests = |measured: &Measured| measured.used.requests / measured.used.seconds;
    let cpu = |measured: &Measured| measured.used.operator_cpu / measured.used.requests.max(1.0) * 1e6;
    beside("requests a second, beside one replica", "1/s", requests(&three), requests(&one), 1.05);
    beside("operator CPU per request, of all three, beside one", "us", cpu(&three), cpu(&one), 1.5);
    beside("achieved period p99, beside one replica", "s", three.period, one.period, 1.1);
    beside("lag p99, beside one replica", "s", three.lag, one.lag, 1.1);
    beside("RSS of the largest, beside one", "MB", megabytes(three.memory), megabytes(one.memory), 1.1);
    report.add(Figure::new("B12", "status writes while quiet", three.used.writes, "").goal(Goal::AtMost(0.0)));
    let apiserver = |measured: &Measured| measured.used.apiserver_cpu / measured.used.seconds;
    report.add(Figure::new("B12", "API server while quiet", apiserver(&three), "cores").floor(apiserver(&one)));
    report.note(format!("B12: other programs used {:.2} cores", three.used.other_cpu / three.used.seconds));
    hand_over(report, &mut stage, &fleets).await?;
    stage.stop().await
}

/// Half of the connections are Astra accounts, half EVS projects.
fn fleets(options: &Options) -> Vec<Fleet> {
    let each = (options.tasks() / CONNECTIONS).max(1);
    let fleet = |i| {
        let (system, name) = if i % 2 == 0 { (System::Astra, "a") } else { (System::Evs, "e") };
        Fleet::new(system, &format!("{name}{i:03}"), each, 20)
    };
    (0..CONNECTIONS).map(fleet).collect()
}

/// A stage with so many replicas, and what they cost while nothing changes, and while tasks change.
async fn measured(options: &Options, fleets: &[Fleet], replicas: usize) -> Result<(Stage, Measured)> {
    let tasks = fleets.iter().map(|fleet| fleet.count).sum::<usize>();
    step(&format!("B12: {tasks} tasks over {CONNECTIONS} connections, {replicas} of {BUCKETS} buckets' replicas"));
    let mut stage = Stage::new(options).await?;
    for fleet in fleets {
        stage.introduce(fleet).await?;
        fleet.watch_all(&stage.client).await?;
    }
    for number in 0..replicas {
        stage.start_replica(&format!("replica-{number}"), &BUCKETS.to_string()).await?;
    }
    until_divided(&stage, replicas).await?;
    let written = stage.wait_writes(count(tasks), START).await?;
    println!("    {written:.0} of {tasks} have their first status");
    stage.settle(Duration::from_secs(30)).await?;
    // A round at the steady pace first.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (position, before) = (stage.log_position().await?, stage.requests_of_each().await?);
    let used = stage.window(options.pick(45, 75)).await?;
    let (asked, after) = (stage.log(position).await?, stage.requests_of_each().await?);
    let sent = after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<_>>();
    let largest_share = sent.iter().copied().fold(0.0, f64::max) / sent.iter().sum::<f64>().max(1.0);
    println!("    requests of each: {sent:?}");
    let period = quantile(&mut gaps(&asked, fleets), 0.99);
    let memory = stage.memory()?.rss_bytes;
    let lag = changes(options, &stage, fleets).await?;
    Ok((stage, Measured { used, period, lag, memory, largest_share }))
}

/// The seconds between two single requests for the same task.
fn gaps(asked: &[Asked], fleets: &[Fleet]) -> Vec<f64> {
    let is_single = |scope: &str| fleets.iter().any(|fleet| fleet.system == System::Evs && fleet.scope == scope);
    gets::gaps(asked.iter().filter(|asked| is_single(&asked.scope)))
}

/// The 99th of a hundred lags of changes, spread over the accounts.
async fn changes(options: &Options, stage: &Stage, fleets: &[Fleet]) -> Result<f64> {
    let accounts = fleets.iter().filter(|fleet| fleet.system == System::Astra).collect::<Vec<_>>();
    let all = accounts[0].count * accounts.len();
    let tasks = (0..FLIPS.min(all)).map(|i| (accounts[i % accounts.len()], i / accounts.len())).collect::<Vec<_>>();
    let lookout = Lookout::start(stage).await?;
    let mut lags = lists::flip(stage, &lookout, &tasks, options.pick(40, 120)).await?;
    ensure!(lags.len() == tasks.len(), "of {} changes, {} were seen", tasks.len(), lags.len());
    Ok(quantile(&mut lags, 0.99))
}

/// One of three is told to stop: for how long its tasks are not polled.
async fn hand_over(report: &mut Report, stage: &mut Stage, fleets: &[Fleet]) -> Result<()> {
    step("B12: one of the three replicas stops");
    let position = stage.log_position().await?;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let leaver = stage.operators.pop().context("no replica runs")?;
    leaver.process().stop().await?;
    until_divided(stage, stage.operators.len()).await?;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let longest = quantile(&mut gaps(&stage.log(position).await?, fleets), 1.0);
    report.add(
        Figure::new("B12", "achieved period, longest, over a hand-over", longest, "s")
            .floor(f64::from(fleets[0].period)),
    );
    Ok(())
}

/// Waits until each of so many replicas holds its share of the buckets.
async fn until_divided(stage: &Stage, replicas: usize) -> Result<()> {
    eventually(START, "the buckets are divided", || async {
        let leases = stage.get(&format!("/apis/coordination.k8s.io/v1/namespaces/{OPERATORS}/leases")).await?;
        let leases = leases["items"].as_array().context("a list without items")?;
        let is_bucket = |name: &str| name.starts_with("taskwatch-") && !name.starts_with("taskwatch-replica-");
        let holders = leases.iter().filter(|lease| lease["metadata"]["name"].as_str().is_some_and(is_bucket));
        let holders = holders.filter_map(|lease| lease["spec"]["holderIdentity"].as_str()).collect::<Vec<_>>();
        let of = |name: &&str| holders.iter().filter(|holder| *holder == name).count();
        let mut shares = holders.iter().map(of).collect::<Vec<_>>();
        shares.sort_unstable();
        let (least, most) = (BUCKETS / replicas, BUCKETS.div_ceil(replicas));
        let is_even = shares.first().is_some_and(|first| *first >= least) && shares.last() <= Some(&most);
        ensure!(holders.len() == BUCKETS && is_even, "{holders:?}");
        Ok(())
    })
    .await
}
