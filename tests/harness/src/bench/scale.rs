//! B8: many connections; what a task costs must not rise with their number.

use anyhow::Result;

use super::fleet::{Fleet, System};
use super::report::{Figure, Goal, Report};
use super::{Options, count, gets, megabytes, step};

/// What a fleet of fleets costs.
struct Cost {
    /// Processor seconds for one answer on a task.
    cpu: f64,
    /// Resident bytes beyond those of an idle operator.
    memory: f64,
    requests: f64,
}

pub(super) async fn play(options: &Options, report: &mut Report) -> Result<()> {
    let (few, many) = if options.quick { ((10, 500), (30, 3_000)) } else { ((10, 1_000), (100, 30_000)) };
    let small = cost(options, few).await?;
    let large = cost(options, many).await?;
    let mut compare = |name, unit, large: f64, small: f64| {
        report.add(Figure::new("B8", name, large, unit).floor(small).goal(Goal::RatioAtMost(1.2)).checked());
    };
    compare("operator CPU per task and period", "us", large.cpu * 1e6, small.cpu * 1e6);
    compare("RSS per task, beyond idle", "kB", large.memory / 1e3, small.memory / 1e3);
    report.add(Figure::new("B8", "requests a second", large.requests, "1/s").floor(small.requests));
    Ok(())
}

/// Half of the connections are Astra accounts, half EVS projects.
async fn cost(options: &Options, (connections, tasks): (usize, usize)) -> Result<Cost> {
    let each = tasks / connections;
    let fleets = (0..connections).map(|i| {
        let (system, name) = if i % 2 == 0 { (System::Astra, "a") } else { (System::Evs, "e") };
        let mut fleet = Fleet::new(system, &format!("{name}{i:03}"), each, 20);
        // Single requests for all at 10 s would be more than a simulator beside an API server can answer.
        fleet.period = 30;
        fleet
    });
    step(&format!("B8: {tasks} tasks over {connections} connections"));
    let mut stage = gets::running(options, &fleets.collect::<Vec<_>>()).await?;
    let used = stage.window(options.pick(30, 60)).await?;
    // After a restart: what the start leaves in the allocator is not what a task needs.
    stage.kill_operator().await?;
    stage.start_operator().await?;
    tokio::time::sleep(options.pick(10, 30)).await;
    let memory = stage.memory()?;
    println!("    RSS {:.1} MB, {:.0} requests/s", megabytes(memory.rss_bytes), used.requests / used.seconds);
    stage.stop().await?;
    #[allow(clippy::cast_precision_loss, reason = "bytes")]
    let beyond = (memory.rss_bytes as f64 - 12e6).max(0.0) / count(tasks);
    Ok(Cost {
        cpu: used.operator_cpu / used.seconds * 30.0 / count(tasks),
        memory: beyond,
        requests: used.requests / used.seconds,
    })
}
