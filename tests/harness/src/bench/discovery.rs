//! Sets: B10, one account of which a set watches half; B11, five accounts in one process.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::fleet::{self, Fleet, System};
use super::floor::{self, Creation};
use super::lag::Lookout;
use super::lists::{self, WRITERS};
use super::report::{Figure, Goal, Report, quantile};
use super::stage::{Stage, Window};
use super::{Options, count, megabytes, step};
use crate::OPERATOR;

/// Creation is to be held up by nothing but the API server.
const UNBOUNDED: &[&str] = &["--child-creates-per-second", "10000", "--api-writes-per-second", "0"];
/// How long it takes after a start until all has been listed, and what it came to is in the statuses; and for each thousand tasks beside.
const LISTED: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(1));
/// What lists have shown is kept as it was read for two minutes: after that, the measurements before included, it is forgotten.
const RECENT: Duration = Duration::from_secs(30);
/// Changes of state of a measurement of the lag.
const FLIPS: usize = 100;
/// Accounts of B11.
const ACCOUNTS: usize = 5;

/// B10: a set that watches half of the tasks of an account.
pub(super) async fn set(options: &Options, report: &mut Report) -> Result<()> {
    let tasks = options.tasks();
    let limit = tasks / 2;
    let creates = bare_creates(limit, Creation::Bare).await?;
    let told = bare_creates(limit, Creation::Told).await?;
    let mut stage = Stage::new(options).await?;
    let fleet = Fleet::new(System::Astra, "found", tasks, 20);
    step(&format!("B10: a set of limit {limit} over an account of {tasks} tasks"));
    stage.introduce(&fleet).await?;
    stage.start_operator_with(UNBOUNDED).await?;
    let before = stage.mark().await?;
    let started = Instant::now();
    fleet.discover(&stage.client, "half", &json!({"limit": limit})).await?;
    let (few, first) = stage.wait_watches(1, Duration::from_mins(1)).await?;
    let (all, last) = stage.wait_watches(u64::try_from(limit)?, Duration::from_mins(4)).await?;
    stage.wait_writes(count(limit), Duration::from_mins(4)).await?;
    let done = Instant::now();
    println!(
        "    {all} made after {:.1} s, {:.1} s later {limit} statuses were written",
        (last - started).as_secs_f64(),
        (done - last).as_secs_f64()
    );
    stage.settle(Duration::from_secs(60)).await?;
    let used = Window::between(&before, &stage.mark().await?);
    let made = count(usize::try_from(all.saturating_sub(few))?);
    report.add(
        Figure::new("B10", "children made a second", made / (last - first).as_secs_f64(), "1/s")
            .floor(creates.rate)
            .goal(Goal::RatioAtLeast(0.7))
            .checked(),
    );
    let rate = count(limit) / (done - first).as_secs_f64();
    report.add(Figure::new("B10", "children made and told a second", rate, "1/s").floor(told.rate));
    report.add(
        Figure::new("B10", "API server CPU per child, made and told", used.apiserver_cpu / count(limit) * 1000.0, "ms")
            .floor(told.apiserver * 1000.0),
    );
    report.add(Figure::new(
        "B10",
        "operator CPU per child, made and told",
        used.operator_cpu / count(limit) * 1000.0,
        "ms",
    ));
    report.add(Figure::new("B10", "etcd revisions per child", used.revisions / count(limit), "").floor(2.0));
    let memory = stage.memory()?;
    report.add(Figure::new("B10", "peak RSS of the start", megabytes(memory.peak_rss_bytes), "MB"));
    let with = quiet(options, &mut stage, options.tasks()).await?;
    // The same watches, which go on being polled, without the set.
    fleet::change_set(&stage.client, "half", &json!({"spec": {"suspend": true}})).await?;
    let without = quiet(options, &mut stage, options.tasks()).await?;
    beside(report, "B10", &with, &without, f64::from(fleet.period));
    let requests = with.used.requests / (with.used.seconds / f64::from(fleet.period));
    report
        .add(Figure::new("B10", "requests per period", requests, "").floor(1.0).goal(Goal::RatioAtMost(1.2)).checked());
    let writes = with.used.writes;
    report.add(Figure::new("B10", "status writes while quiet", writes, "").goal(Goal::AtMost(0.0)));
    stage.stop().await
}

/// B11: five accounts, each of their tasks watched by hand, and in each a set that looks for what has failed.
pub(super) async fn accounts(options: &Options, report: &mut Report) -> Result<()> {
    let tasks = options.tasks() * ACCOUNTS;
    step(&format!("B11: {tasks} tasks of {ACCOUNTS} accounts: creating the watches"));
    let mut stage = Stage::new(options).await?;
    let each = |n: usize| Fleet::new(System::Astra, &format!("account{n}"), options.tasks(), 20);
    let fleets: Vec<_> = (0..ACCOUNTS).map(each).collect();
    for fleet in &fleets {
        stage.introduce(fleet).await?;
        fleet.watch_all(&stage.client).await?;
        fleet.discover(&stage.client, &fleet.name, &json!({"match": {"states": ["Failed"]}})).await?;
    }
    let idle = stage.window(Duration::from_secs(8)).await?;
    stage.start_operator_with(UNBOUNDED).await?;
    let limit = Duration::from_mins(4);
    let written = stage.wait_writes(count(tasks), limit).await?;
    println!("    {written:.0} of {tasks} have their status");
    stage.settle(Duration::from_secs(60)).await?;
    let with = quiet(options, &mut stage, tasks).await?;
    let kept = count(tasks) - left_out(&stage).await?;
    report
        .add(Figure::new("B11", "tasks in the catalogues", kept, "").floor(count(tasks)).goal(Goal::RatioAtLeast(1.0)));
    let cores = |window: &Window| window.operator_cpu / window.seconds;
    report.add(Figure::new("B11", "operator CPU", cores(&with.used), "cores").goal(Goal::AtMost(0.25)));
    let apiserver = |window: &Window| window.apiserver_cpu / window.seconds;
    report.add(Figure::new("B11", "API server while quiet", apiserver(&with.used), "cores").floor(apiserver(&idle)));
    report.add(Figure::new("B11", "status writes while quiet", with.used.writes, "").goal(Goal::AtMost(0.0)));
    lag(options, report, &stage, &fleets).await?;
    tokio::time::sleep(RECENT).await;
    let memory = stage.memory()?.rss_bytes;
    report.add(Figure::new("B11", "RSS", megabytes(memory), "MB").goal(Goal::AtMost(120.0)));
    for fleet in &fleets {
        fleet::change_set(&stage.client, &fleet.name, &json!({"spec": {"suspend": true}})).await?;
    }
    let without = quiet(options, &mut stage, tasks).await?;
    beside(report, "B11", &Quiet { memory, ..with }, &without, f64::from(fleets[0].period));
    stage.stop().await
}

/// Bare creates.
struct Creates {
    /// So many a second.
    rate: f64,
    /// Processor seconds of the API server for each.
    apiserver: f64,
}

/// Creates as fast as they go, on a control plane of their own.
async fn bare_creates(objects: usize, what: Creation) -> Result<Creates> {
    step(&format!("Floor: creates ({what:?})"));
    let stage = Stage::new(&Options::default()).await?;
    let kubeconfig = stage.plane.kubeconfig(OPERATOR)?.display().to_string();
    let before = stage.mark().await?;
    let floor = floor::creates(&kubeconfig, what, objects, WRITERS).await?;
    let used = Window::between(&before, &stage.mark().await?);
    let creates = Creates { rate: count(objects) / floor.wall, apiserver: used.apiserver_cpu / count(objects) };
    let milliseconds = [floor.cpu / count(objects), creates.apiserver].map(|seconds| seconds * 1000.0);
    println!(
        "    {:.0} creates/s, {:.2} ms of processor time each, {:.2} ms of the API server",
        creates.rate, milliseconds[0], milliseconds[1]
    );
    stage.stop().await?;
    Ok(creates)
}

/// What a quiet time after a restart costs, and the memory then: what the start leaves in the allocator is not what is needed.
struct Quiet {
    used: Window,
    memory: u64,
}

async fn quiet(options: &Options, stage: &mut Stage, tasks: usize) -> Result<Quiet> {
    stage.settle(Duration::from_secs(30)).await?;
    stage.kill_operator().await?;
    stage.start_operator_with(UNBOUNDED).await?;
    let (least, for_thousand) = LISTED;
    tokio::time::sleep(least + for_thousand * u32::try_from(tasks / 1000)?).await;
    let used = stage.window(options.pick(30, 60)).await?;
    Ok(Quiet { used, memory: stage.memory()?.rss_bytes })
}

/// What sets cost beside the same watches without them.
fn beside(report: &mut Report, scenario: &'static str, with: &Quiet, without: &Quiet, period: f64) {
    let cpu = |quiet: &Quiet| quiet.used.operator_cpu / quiet.used.seconds * period * 1000.0;
    report.add(
        Figure::new(scenario, "operator CPU per period, beside the same without sets", cpu(with), "ms")
            .floor(cpu(without))
            .checked(),
    );
    report.add(
        Figure::new(scenario, "RSS, beside the same without sets", megabytes(with.memory), "MB")
            .floor(megabytes(without.memory))
            .checked(),
    );
    let other = with.used.other_cpu / with.used.seconds;
    report.note(format!("{scenario}: other programs used {other:.2} cores"));
}

/// How many tasks all sets leave out: where none matches, those that there is no room for.
async fn left_out(stage: &Stage) -> Result<f64> {
    let list = stage.get("/apis/taskwatch.dev/v1alpha1/taskwatchsets").await?;
    let sets = list["items"].as_array().into_iter().flatten();
    Ok(sets.filter_map(|set: &Value| set["status"]["leftOut"].as_f64()).sum())
}

/// Tasks of all accounts change at known moments.
async fn lag(options: &Options, report: &mut Report, stage: &Stage, fleets: &[Fleet]) -> Result<()> {
    let length = options.pick(40, 60);
    step(&format!("B11: {FLIPS} tasks change within {} s", length.as_secs()));
    let lookout = Lookout::start(stage).await?;
    let flips = (0..FLIPS).map(|i| (&fleets[i % fleets.len()], i * (fleets[0].count / FLIPS))).collect::<Vec<_>>();
    let mut lags = lists::flip(stage, &lookout, &flips, length).await?;
    let period = f64::from(fleets[0].period);
    report.add(
        Figure::new("B11", "changes seen", count(lags.len()), "").floor(count(FLIPS)).goal(Goal::RatioAtLeast(1.0)),
    );
    report.add(Figure::new("B11", "lag p50", quantile(&mut lags, 0.5), "s").floor(period / 2.0));
    report.add(
        Figure::new("B11", "lag p99", quantile(&mut lags, 0.99), "s")
            .floor(period)
            .goal(Goal::AtMost(period + 1.0))
            .checked(),
    );
    Ok(())
}
