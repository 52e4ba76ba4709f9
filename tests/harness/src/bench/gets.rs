//! Single requests: many jobs of one project (B2), a slow neighbour (B7), three times the budget (B9).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::fleet::{Fleet, System};
use super::report::{Figure, Goal, Report, quantile};
use super::stage::{Asked, Stage};
use super::{Options, count, lists, step};

/// Until all have their first status.
const START: Duration = Duration::from_mins(3);

/// A stage with an operator that has written the first status of all watches of `fleets`.
pub(super) async fn running(options: &Options, fleets: &[Fleet]) -> Result<Stage> {
    let mut stage = Stage::new(options).await?;
    for fleet in fleets {
        stage.introduce(fleet).await?;
        fleet.watch_all(&stage.client).await?;
    }
    stage.start_operator().await?;
    let all = fleets.iter().map(|fleet| fleet.count).sum::<usize>();
    let written = stage.wait_writes(count(all), START).await?;
    println!("    {written:.0} of {all} have their first status");
    stage.settle(Duration::from_secs(30)).await?;
    Ok(stage)
}

/// The seconds between two requests for the same task.
pub(super) fn gaps<'a>(asked: impl Iterator<Item = &'a Asked>) -> Vec<f64> {
    let mut last = HashMap::new();
    let mut gaps = Vec::new();
    for asked in asked {
        if let Some(before) = last.insert(asked.path.as_str(), asked.time_ms) {
            #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
            gaps.push((asked.time_ms - before) as f64 / 1000.0);
        }
    }
    gaps
}

/// B2: jobs by single requests, as many a second as the budget allows.
pub(super) async fn jobs(options: &Options, report: &mut Report) -> Result<()> {
    let tasks = options.tasks();
    let budget = u32::try_from(tasks / 10)?.clamp(1, 1000);
    let mut fleet = Fleet::new(System::Evs, "evs", tasks, budget);
    fleet.in_flight = 32;
    step(&format!("B2: {tasks} EVS jobs by single requests, {budget} a second"));
    let mut stage = running(options, std::slice::from_ref(&fleet)).await?;
    // A round at the steady pace first: the burst of the start is not what is measured.
    tokio::time::sleep(Duration::from_secs(12)).await;
    stage.simulator.admin("DELETE", "/counters", None).await?;
    let position = stage.log_position().await?;
    let used = stage.window(options.pick(45, 75)).await?;
    let asked = stage.log(position).await?;
    let counters = stage.simulator.admin("GET", "/counters", None).await?;
    let mut periods = gaps(asked.iter());
    let period = f64::from(fleet.period);
    report.add(
        Figure::new("B2", "requests a second", used.requests / used.seconds, "1/s")
            .floor(f64::from(budget))
            .goal(Goal::RatioAtLeast(0.95)),
    );
    report.add(Figure::new("B2", "achieved period p50", quantile(&mut periods, 0.5), "s").floor(period));
    report.add(
        Figure::new("B2", "achieved period p99", quantile(&mut periods, 0.99), "s")
            .floor(period)
            .goal(Goal::RatioAtMost(1.1))
            .checked(),
    );
    report.add(Figure::new("B2", "achieved period, longest", quantile(&mut periods, 1.0), "s").floor(period));
    report.add(Figure::new("B2", "new connections", used.accepted, "").goal(Goal::AtMost(0.0)));
    let open = counters["connections"]["open"]["peak"].as_f64().unwrap_or_default();
    report.add(
        Figure::new("B2", "open sockets, most", open, "")
            .floor(f64::from(fleet.in_flight))
            .goal(Goal::RatioAtMost(1.0)),
    );
    report.add(Figure::new("B2", "status writes while quiet", used.writes, "").goal(Goal::AtMost(0.0)));
    let apiserver = used.apiserver_cpu / used.seconds;
    report.add(Figure::new("B2", "API server while quiet", apiserver, "cores"));
    stage.kill_operator().await?;
    let floor = lists::gets_floor(&stage, &fleet, 3, None).await?;
    let paced = lists::gets_floor(&stage, &fleet, 3, Some(budget)).await?;
    // For what was really asked, should that be less than a round in a period.
    let poll = used.operator_cpu / used.requests.max(1.0);
    report.add(
        Figure::new("B2", "operator CPU per request", poll * 1e6, "us")
            .floor(floor.cpu / count(tasks) * 1e6)
            .goal(Goal::RatioAtMost(1.5)),
    );
    report.add(
        Figure::new("B2", "operator CPU per request, the floor at its pace", poll * 1e6, "us")
            .floor(paced.cpu / count(tasks) * 1e6)
            .checked(),
    );
    report.add(Figure::new("B2", "operator CPU", used.operator_cpu / used.seconds, "cores"));
    report.note(format!("B2: other programs used {:.2} cores", used.other_cpu / used.seconds));
    stage.stop().await
}

/// B7: one connection whose every answer takes 10 s, beside twenty good ones.
pub(super) async fn slow_neighbour(options: &Options, report: &mut Report) -> Result<()> {
    let each = if options.quick { 10 } else { 50 };
    let mut fleets = (0..21).map(|i| Fleet::new(System::Evs, &format!("c{i:02}"), each, 50)).collect::<Vec<_>>();
    for fleet in &mut fleets {
        fleet.period = 5;
    }
    step(&format!("B7: 21 connections with {each} jobs each, one of them slow"));
    let stage = running(options, &fleets).await?;
    let slow = &fleets[0];
    let mut p99 = Vec::new();
    for is_slow in [false, true] {
        if is_slow {
            stage.fault("slow", slow, json!({"kind": "delay", "headersMs": 10_000})).await?;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let position = stage.log_position().await?;
        tokio::time::sleep(options.pick(20, 45)).await;
        let asked = stage.log(position).await?;
        let mut good = gaps(asked.iter().filter(|asked| asked.scope != slow.scope));
        p99.push(quantile(&mut good, 0.99));
    }
    report.add(
        Figure::new("B7", "period p99 of the good ones", p99[1], "s")
            .floor(p99[0])
            .goal(Goal::RatioAtMost(1.05))
            .checked(),
    );
    stage.stop().await
}

/// B9: three times what the budget allows.
pub(super) async fn overload(options: &Options, report: &mut Report) -> Result<()> {
    let tasks = if options.quick { 300 } else { 600 };
    let mut fleet = Fleet::new(System::Evs, "busy", tasks, u32::try_from(tasks / 15)?);
    fleet.period = 5;
    step(&format!("B9: {tasks} jobs every 5 s, with a budget of {} requests a second", fleet.per_second));
    let stage = running(options, std::slice::from_ref(&fleet)).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let position = stage.log_position().await?;
    let used = stage.window(options.pick(60, 120)).await?;
    let asked = stage.log(position).await?;
    let mut periods = gaps(asked.iter());
    let share = count(tasks) / f64::from(fleet.per_second);
    let p99 = quantile(&mut periods, 0.99);
    report.add(
        Figure::new("B9", "requests a second", used.requests / used.seconds, "1/s")
            .floor(f64::from(fleet.per_second))
            .goal(Goal::RatioAtMost(1.02)),
    );
    report.add(Figure::new("B9", "achieved period p50", quantile(&mut periods, 0.5), "s").floor(share));
    report.add(Figure::new("B9", "achieved period p99", p99, "s").floor(share));
    report.add(
        Figure::new("B9", "achieved period, longest", quantile(&mut periods, 1.0), "s")
            .floor(share)
            .goal(Goal::RatioAtMost(1.1))
            .checked(),
    );
    let asked_for = asked.iter().map(|asked| asked.path.as_str()).collect::<std::collections::HashSet<_>>().len();
    report
        .add(Figure::new("B9", "tasks polled", count(asked_for), "").floor(count(tasks)).goal(Goal::RatioAtLeast(1.0)));
    let metrics = stage.metrics().await?;
    let stretch = metrics.sum("taskwatch_period_stretch", "");
    report.add(Figure::new("B9", "stretch in the metrics", stretch, "").floor(3.0));
    stage.stop().await
}
