//! One account whose tasks are served by lists: idle, cold start (B4), steady (B1), newcomers (B3), restart (B5), outage (B6), memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::fleet::{self, Fleet, System, TOKEN};
use super::floor::{self, Floor};
use super::lag::Lookout;
use super::report::{Figure, Goal, Report, quantile};
use super::stage::{Stage, Window};
use super::{Options, count, megabytes, step};
use crate::OPERATOR;

/// The operator writes so many statuses at a time, and so does the floor.
pub(super) const WRITERS: usize = 16;
/// Newcomers of B3.
const NEWCOMERS: usize = 100;
/// Changes of state of a measurement of the lag, at least.
const FLIPS: usize = 100;

/// The floor patcher.
#[derive(Clone, Copy, Debug, Default)]
struct Patcher {
    /// Writes a second.
    rate: f64,
    /// Processor seconds of the API server for each.
    apiserver: f64,
}

pub(super) async fn play(options: &Options, report: &mut Report) -> Result<()> {
    let writes = patcher(options).await?;
    let mut stage = Stage::new(options).await?;
    idle(options, report, &mut stage).await?;
    let fleet = Fleet::new(System::Astra, "astra", options.tasks(), 10);
    step(&format!("{} tasks of one Astra account: creating the watches", fleet.count));
    stage.introduce(&fleet).await?;
    // The newcomers' tasks are there from the start.
    let newcomers = Fleet { first: fleet.count, count: NEWCOMERS, ..fleet.clone() };
    stage.simulator.admin("POST", "/bulk", Some(&newcomers.bulk())).await?;
    let started = Instant::now();
    fleet.watch_all(&stage.client).await?;
    println!("    {:.0} a second", count(fleet.count) / started.elapsed().as_secs_f64());
    step("B1, floor: an API server with these objects, without an operator");
    stage.settle(Duration::from_secs(30)).await?;
    let alone = stage.window(options.pick(20, 60)).await?;
    cold_start(report, &mut stage, &fleet, writes).await?;
    let quiet = steady(options, report, &stage, &fleet, &alone).await?;
    if options.wants("B1") {
        changes(options, report, &stage, &fleet).await?;
    }
    if options.wants("B3") {
        newcomers_arrive(report, &stage, &newcomers).await?;
    }
    if options.wants_any(&["B1", "B5", "memory"]) {
        restart(options, report, &mut stage, &fleet, &quiet).await?;
    }
    if options.wants("B6") {
        outage(options, report, &stage, &fleet).await?;
    }
    stage.stop().await
}

/// Bare status patches as fast as they go: objects without an operator, on a control plane of their own.
async fn patcher(options: &Options) -> Result<Patcher> {
    if !options.wants("B4") {
        return Ok(Patcher::default());
    }
    step("Floor: bare status patches");
    let stage = Stage::new(options).await?;
    let fleet = fleet::floor_fleet(options.tasks().min(4_000));
    fleet.watch_all(&stage.client).await?;
    let kubeconfig = stage.plane.kubeconfig(OPERATOR)?.display().to_string();
    let before = stage.mark().await?;
    let floor = floor::patches(&kubeconfig, fleet.count, WRITERS).await?;
    let used = Window::between(&before, &stage.mark().await?);
    let rate = count(fleet.count) / floor.wall;
    println!("    {rate:.0} writes/s, {:.2} ms of processor time each", floor.cpu / count(fleet.count) * 1000.0);
    stage.stop().await?;
    Ok(Patcher { rate, apiserver: used.apiserver_cpu / count(fleet.count) })
}

async fn idle(options: &Options, report: &mut Report, stage: &mut Stage) -> Result<()> {
    step("Idle: an API server without an operator, and with one that has nothing to do");
    let length = options.pick(8, 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let alone = stage.window(length).await?;
    stage.start_operator().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with = stage.window(length).await?;
    let cores = |window: &Window| window.apiserver_cpu / window.seconds;
    report.add(Figure::new("idle", "API server", cores(&with), "cores").floor(cores(&alone)));
    report.add(Figure::new("idle", "operator", with.operator_cpu / with.seconds, "cores"));
    let memory = stage.memory()?;
    report.add(Figure::new("idle", "RSS", megabytes(memory.rss_bytes), "MB").goal(Goal::AtMost(15.0)));
    report.add(
        Figure::new("idle", "peak RSS", megabytes(memory.peak_rss_bytes), "MB").floor(megabytes(memory.rss_bytes)),
    );
    stage.kill_operator().await
}

/// B4: the objects are there without a status, and the operator comes.
async fn cold_start(report: &mut Report, stage: &mut Stage, fleet: &Fleet, floor: Patcher) -> Result<()> {
    step("B4: cold start");
    let position = stage.log_position().await?;
    let before = stage.mark().await?;
    let started = Instant::now();
    stage.spawn_operator()?;
    let written = stage.wait_writes(count(fleet.count), Duration::from_mins(4)).await?;
    let seconds = started.elapsed().as_secs_f64();
    stage.settle(Duration::from_secs(60)).await?;
    let used = Window::between(&before, &stage.mark().await?);
    let tasks = count(fleet.count);
    let rate = written / seconds;
    let mut figure = Figure::new("B4", "statuses a second", rate, "1/s").goal(Goal::RatioAtLeast(0.7)).checked();
    if floor.rate > 0.0 {
        figure = figure.floor(floor.rate);
    }
    report.add(figure);
    report.add(
        Figure::new("B4", "status writes per watch", used.writes / tasks, "")
            .floor(1.0)
            .goal(Goal::RatioAtMost(1.005))
            .checked(),
    );
    report.add(Figure::new("B4", "etcd revisions per watch", used.revisions / tasks, "").floor(1.0));
    report.add(Figure::new("B4", "events per watch", used.events / tasks, ""));
    report.add(Figure::new("B4", "writes refused or late", used.failed_writes, ""));
    report.add(Figure::new("B4", "operator CPU per watch", used.operator_cpu / tasks * 1000.0, "ms"));
    report.add(
        Figure::new("B4", "API server CPU per watch", used.apiserver_cpu / tasks * 1000.0, "ms")
            .floor(floor.apiserver * 1000.0)
            .goal(Goal::RatioAtMost(1.4))
            .checked(),
    );
    let asked = stage.log(position).await?;
    let budget = f64::from(fleet.per_second);
    report.add(
        Figure::new("B4", "most requests in a second", busiest(asked.iter().map(|a| a.time_ms)), "")
            .floor(budget + budget.min(10.0))
            .goal(Goal::RatioAtMost(1.0)),
    );
    let memory = stage.memory()?;
    report.add(
        Figure::new("memory", "peak RSS of a cold start", megabytes(memory.peak_rss_bytes), "MB")
            .floor(megabytes(memory.rss_bytes))
            .goal(Goal::RatioAtMost(1.5))
            .checked(),
    );
    report.note(format!(
        "B4: states {:?}; other programs used {:.2} cores",
        stage.count_states().await?,
        used.other_cpu / used.seconds
    ));
    Ok(())
}

/// The most requests that arrived within one second.
pub(super) fn busiest(times: impl Iterator<Item = i64>) -> f64 {
    let mut times = times.collect::<Vec<_>>();
    times.sort_unstable();
    let most = times.iter().enumerate().map(|(i, from)| times[i..].partition_point(|time| *time < from + 1000)).max();
    count(most.unwrap_or_default())
}

/// B1, first half: nothing changes.
async fn steady(
    options: &Options,
    report: &mut Report,
    stage: &Stage,
    fleet: &Fleet,
    alone: &Window,
) -> Result<Window> {
    step("B1: nothing changes");
    let position = stage.log_position().await?;
    let used = stage.window(options.pick(60, 120)).await?;
    let asked = stage.log(position).await?;
    let cycles = used.seconds / f64::from(fleet.period);
    let lists = asked.iter().filter(|asked| asked.path.ends_with("/tasks")).count();
    report.add(
        Figure::new("B1", "requests per period", used.requests / cycles, "")
            .floor(1.0)
            .goal(Goal::RatioAtMost(1.2))
            .checked(),
    );
    report.note(format!(
        "B1: {lists} lists of {} requests; other programs used {:.2} cores",
        asked.len(),
        used.other_cpu / used.seconds
    ));
    report.add(Figure::new("B1", "status writes while quiet", used.writes, "").goal(Goal::AtMost(0.0)));
    report.add(
        Figure::new("B1", "etcd revisions a second while quiet", used.revisions / used.seconds, "1/s")
            .floor((alone.revisions / alone.seconds).max(0.1)),
    );
    let apiserver = |window: &Window| window.apiserver_cpu / window.seconds;
    report.add(
        Figure::new("B1", "API server while quiet", apiserver(&used), "cores")
            .floor(apiserver(alone))
            .goal(Goal::RatioAtMost(1.3)),
    );
    report.add(Figure::new("B1", "etcd while quiet", used.etcd_cpu / used.seconds, "cores"));
    let memory = stage.memory()?;
    report
        .add(Figure::new("memory", "RSS with all active", megabytes(memory.rss_bytes), "MB").goal(Goal::AtMost(40.0)));
    Ok(used)
}

/// B1, second half: tasks change at known moments.
async fn changes(options: &Options, report: &mut Report, stage: &Stage, fleet: &Fleet) -> Result<()> {
    let length = options.pick(40, 120);
    // One in a hundred a minute, and enough to speak of a 99th of a hundred.
    let flips = (fleet.count / 100 * usize::try_from(length.as_secs())? / 60).max(FLIPS);
    step(&format!("B1: {flips} tasks change within {} s", length.as_secs()));
    let lookout = Lookout::start(stage).await?;
    let before = stage.mark().await?;
    let tasks = (0..flips).map(|i| (fleet, i * (fleet.count / flips))).collect::<Vec<_>>();
    let mut lags = flip(stage, &lookout, &tasks, length).await?;
    let used = Window::between(&before, &stage.mark().await?);
    report.add(
        Figure::new("B1", "changes seen", count(lags.len()), "").floor(count(flips)).goal(Goal::RatioAtLeast(1.0)),
    );
    let p50 = quantile(&mut lags, 0.5);
    let p99 = quantile(&mut lags, 0.99);
    report.add(Figure::new("B1", "lag p50", p50, "s").floor(f64::from(fleet.period) / 2.0));
    report.add(
        Figure::new("B1", "lag p99", p99, "s")
            .floor(f64::from(fleet.period))
            .goal(Goal::AtMost(f64::from(fleet.period) + 1.0))
            .checked(),
    );
    report.add(
        Figure::new("B1", "status writes per change", used.writes / count(flips), "")
            .floor(1.0)
            .goal(Goal::RatioAtMost(1.05)),
    );
    report.add(Figure::new("B1", "API server CPU per change", used.apiserver_cpu / count(flips) * 1000.0, "ms"));
    Ok(())
}

/// Changes these tasks, one after the other within `length`. Returns how long it took until each was seen, for those that were.
pub(super) async fn flip(
    stage: &Stage,
    lookout: &Lookout,
    tasks: &[(&Fleet, usize)],
    length: Duration,
) -> Result<Vec<f64>> {
    let pace = length / u32::try_from(tasks.len())?;
    let started = Instant::now();
    let mut changed = Vec::new();
    for (i, (fleet, n)) in (1..).zip(tasks) {
        let path = format!("/tasks/astraControl/{}/{}", fleet.scope, fleet.task_id(*n));
        changed.push((fleet.watch_name(*n), Instant::now()));
        stage.simulator.admin("PATCH", &path, Some(&json!({"state": "paused"}))).await?;
        tokio::time::sleep_until((started + pace * i).into()).await;
    }
    let period = tasks.iter().map(|(fleet, _)| fleet.period).max().unwrap_or_default();
    tokio::time::sleep(Duration::from_secs(u64::from(period) + 3)).await;
    let seen = changed.iter().filter_map(|(name, at)| Some(lookout.seen(name, "Paused")?.duration_since(*at)));
    Ok(seen.map(|lag| lag.as_secs_f64()).collect())
}

/// B3: watches that are created while all others are being polled.
async fn newcomers_arrive(report: &mut Report, stage: &Stage, newcomers: &Fleet) -> Result<()> {
    step(&format!("B3: {} newcomers, one after the other", newcomers.count));
    let lookout = Lookout::start(stage).await?;
    let mut waits = Vec::new();
    for n in newcomers.first..newcomers.first + newcomers.count {
        let created = Instant::now();
        newcomers.watch(&stage.client, n).await?;
        let name = newcomers.watch_name(n);
        let limit = created + Duration::from_secs(15);
        let seen = loop {
            match lookout.seen_any(&name) {
                Some(at) => break at,
                None if Instant::now() > limit => break limit,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        waits.push(seen.duration_since(created).as_secs_f64());
        // Not in step with anything.
        tokio::time::sleep(Duration::from_millis(100 + (n as u64 * 37) % 150)).await;
    }
    report.add(Figure::new("B3", "first status p50", quantile(&mut waits, 0.5), "s"));
    report.add(Figure::new("B3", "first status p99", quantile(&mut waits, 0.99), "s").goal(Goal::AtMost(1.0)));
    Ok(())
}

/// B5 and the floor poller: the operator is killed, the floor asks what it asked, the operator comes back.
async fn restart(
    options: &Options,
    report: &mut Report,
    stage: &mut Stage,
    fleet: &Fleet,
    quiet: &Window,
) -> Result<()> {
    step("B1, floor: the same list with the same HTTP client, parsed and compared");
    let asked = stage.log(0).await?;
    let list = asked.iter().rev().find(|asked| asked.path.ends_with("/tasks") && !asked.query.contains("filter"));
    stage.kill_operator().await?;
    let (path, query) = match list {
        Some(asked) => (asked.path.clone(), asked.query.clone()),
        None => (format!("/accounts/{}/core/v1/tasks", fleet.scope), String::new()),
    };
    let url = format!("{}{path}?{query}", stage.simulator.url());
    let poller = floor::lists(&url, TOKEN, 40, None).await?;
    let paced = floor::lists(&url, TOKEN, 6, Some(fleet.period)).await?;
    let cycle = |window: &Window| window.operator_cpu / window.seconds * f64::from(fleet.period);
    report.add(
        Figure::new("B1", "operator CPU per period", cycle(quiet) * 1000.0, "ms")
            .floor(poller.cpu * 1000.0)
            .goal(Goal::RatioAtMost(2.0)),
    );
    report.add(
        Figure::new("B1", "operator CPU per period, the floor at its pace", cycle(quiet) * 1000.0, "ms")
            .floor(paced.cpu * 1000.0)
            .checked(),
    );
    if options.wants_any(&["B5", "memory"]) {
        known_restart(options, report, stage, fleet).await?;
    } else {
        stage.start_operator().await?;
    }
    Ok(())
}

async fn known_restart(options: &Options, report: &mut Report, stage: &mut Stage, fleet: &Fleet) -> Result<()> {
    step("B5: restart");
    let events = stage.count_events().await?;
    let position = stage.log_position().await?;
    let before = stage.mark().await?;
    let started = Instant::now();
    let wall = std::time::SystemTime::now();
    stage.spawn_operator()?;
    tokio::time::sleep(options.pick(15, 30)).await;
    let used = Window::between(&before, &stage.mark().await?);
    let since = i64::try_from(wall.duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
    let asked = stage.log(position).await?;
    let list = asked.iter().find(|asked| asked.path.ends_with("/tasks")).or(asked.first());
    #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
    let first = list.map_or(started.elapsed().as_secs_f64(), |asked| (asked.time_ms - since) as f64 / 1000.0);
    report.add(Figure::new("B5", "polling again after", first, "s").goal(Goal::AtMost(5.0)));
    report.add(Figure::new("B5", "status writes", used.writes, "").goal(Goal::AtMost(0.0)));
    report.add(Figure::new("B5", "etcd revisions", used.revisions, ""));
    #[allow(clippy::cast_precision_loss, reason = "a count")]
    let repeated = stage.count_events().await?.saturating_sub(events) as f64;
    report.add(Figure::new("B5", "new events", repeated, "").goal(Goal::AtMost(0.0)));
    report.add(Figure::new("B5", "requests in the first seconds", count(asked.len()), ""));
    report.add(Figure::new("B5", "operator CPU", used.operator_cpu, "s"));
    let memory = stage.memory()?;
    report
        .add(Figure::new("memory", "RSS after a restart", megabytes(memory.rss_bytes), "MB").goal(Goal::AtMost(40.0)));
    report.add(
        Figure::new("memory", "peak RSS of a restart", megabytes(memory.peak_rss_bytes), "MB")
            .floor(megabytes(memory.rss_bytes))
            .goal(Goal::RatioAtMost(1.5))
            .checked(),
    );
    let per_watch = megabytes(memory.rss_bytes) * 1e3 / count(fleet.count);
    report.note(format!("B5: RSS over watches is {per_watch:.1} kB, the program itself included"));
    Ok(())
}

/// B6: the upstream is away, shortly and for long. Time is not scaled: the thresholds of the status contract (30 s or three periods)
/// are no flags, so the long outage is some times that.
async fn outage(options: &Options, report: &mut Report, stage: &Stage, fleet: &Fleet) -> Result<()> {
    // The newcomers of B3 have stayed.
    let tasks = count(fleet.count + if options.wants("B3") { NEWCOMERS } else { 0 });
    stage.settle(Duration::from_secs(30)).await?;
    step("B6: the upstream is away for 12 s");
    let before = stage.mark().await?;
    stage.fault("away", fleet, json!({"kind": "status", "status": 503})).await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    stage.no_faults().await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let short = Window::between(&before, &stage.mark().await?);
    report.add(Figure::new("B6", "status writes of 12 s of trouble", short.writes, "").goal(Goal::AtMost(0.0)));
    let length = options.pick(60, 150);
    step(&format!("B6: … for {} s", length.as_secs()));
    let states = stage.count_states().await?;
    let (before, position) = (stage.mark().await?, stage.log_position().await?);
    stage.fault("away", fleet, json!({"kind": "reset"})).await?;
    tokio::time::sleep(length).await;
    let asked = stage.log(position).await?;
    let kept = stage.count_states().await? == states;
    stage.no_faults().await?;
    let middle = stage.mark().await?;
    let long = Window::between(&before, &middle);
    report.add(
        Figure::new("B6", "status writes per watch for the outage", long.writes / tasks, "").goal(Goal::AtMost(1.005)),
    );
    report.add(
        Figure::new("B6", "requests a minute while away", count(asked.len()) * 60.0 / long.seconds, "")
            .goal(Goal::AtMost(6.0)),
    );
    report
        .add(Figure::new("B6", "states kept", f64::from(u8::from(kept)), "").floor(1.0).goal(Goal::RatioAtLeast(1.0)));
    // The connection is probed ever more rarely: it takes a while until the end of the outage is noticed.
    let (written, started) = (stage.metrics().await?.sum("taskwatch_status_writes_total", "patched"), Instant::now());
    stage.wait_writes(written + 1.0, Duration::from_mins(3)).await?;
    let noticed = started.elapsed().as_secs_f64();
    stage.wait_writes(written + tasks, Duration::from_mins(1)).await?;
    let spread = started.elapsed().as_secs_f64() - noticed;
    stage.settle(Duration::from_secs(60)).await?;
    report.add(Figure::new("B6", "first status after the upstream is back", noticed, "s"));
    report.add(Figure::new("B6", "… and until the last", spread, "s"));
    let back = Window::between(&middle, &stage.mark().await?);
    report.add(
        Figure::new("B6", "status writes per watch for the recovery", back.writes / tasks, "")
            .goal(Goal::AtMost(1.005)),
    );
    report.add(Figure::new("B6", "events per watch, outage and recovery", (long.events + back.events) / tasks, ""));
    let same = stage.count_states().await? == states;
    report.add(
        Figure::new("B6", "states as before", f64::from(u8::from(same)), "").floor(1.0).goal(Goal::RatioAtLeast(1.0)),
    );
    Ok(())
}

/// The floor of single requests, for a fleet of jobs.
pub(super) async fn gets_floor(stage: &Stage, fleet: &Fleet, rounds: usize, pace: Option<u32>) -> Result<Floor> {
    let url = format!("{}/v1/{}/jobs/{:08x}00000000{{}}", stage.simulator.url(), fleet.scope, fleet.task_tag());
    floor::gets(&url, TOKEN, fleet.count, rounds, pace).await
}
