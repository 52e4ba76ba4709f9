//! `make test-attacks`: every attack of the security review, and variants of each, on the release build in the memory that its manifest
//! gives it, beside a tenant who must not notice.
//!
//! For each attack alone, and for all at once, these bars hold:
//! - the operator neither dies nor is killed, and `/healthz` answers within a second, every second;
//! - polls and status writes of the canary are at the 99th percentile at most 1.2 times and a second later than in a quiet run; what
//!   a bystander has to wait for the same API server at the same time is not held against it (`witness`, `lags::beyond`);
//! - afterwards its memory is back at its level.
//!
//! What an attack must not achieve beside that (a secret in a status, another tenant's polls) is judged by the attack itself.
//!
//! | module | what it does |
//! |---|---|
//! | `case`, `cases` | what an attack is, and all of them |
//! | `upstream`, `dns`, `sockets` | what attacks: upstreams, a name server, floods of ports |
//! | `ground`, `objects`, `isolation`, `cgroup` | where it is tried |
//! | `subject`, `canary`, `witness`, `lags`, `secrets` | what is watched, and how it is judged |
//! | `report` | the table |

mod canary;
mod case;
mod cases;
mod cgroup;
mod dns;
mod ground;
mod isolation;
mod lags;
mod objects;
mod report;
mod secrets;
mod sockets;
mod subject;
mod upstream;
mod witness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use self::canary::{Canary, Late};
use self::case::{Attack, Place, Scene, Server};
use self::dns::NameServer;
use self::ground::Ground;
use self::report::Row;
use self::secrets::Secrets;
use self::subject::Subject;
use self::upstream::Upstream;
use crate::{OPERATOR, Workdir};

pub use self::isolation::enter;
pub use self::report::Report;
pub use self::witness::{ARGUMENT as WITNESS, testify};

/// What is tried, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's binary: the release build.
    pub program: PathBuf,
    /// Only findings and attacks that are named here; all when empty. `together` and `mass` are names, too.
    pub only: Vec<String>,
    /// How long all attacks at once go on.
    pub together: Duration,
}

/// How long the canary is watched without an attack.
const QUIET: Duration = Duration::from_secs(15);
/// How long memory may take to be back at its level.
const SETTLE: Duration = Duration::from_secs(25);
/// How long what is deleted may be told of after an attack with large or many objects; looked at so often.
const DIGEST: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(3);
/// How often what went wrong, although the operator was up, is tried again.
const AGAIN: usize = 2;
/// How much of it may stay: a quarter, and what an allocator keeps.
const SLACK: u64 = 16 << 20;

/// The names of all attacks with their findings, in the order in which they are tried.
#[must_use]
pub fn names() -> Vec<(&'static str, &'static str, &'static str)> {
    cases::all().into_iter().map(|attack| (attack.finding, attack.name, attack.what)).collect()
}

/// Tries them.
///
/// # Errors
/// When a part of the stage does not start or come back; what the operator does wrong is in the report.
pub async fn run(options: Options) -> Result<Report> {
    ensure!(
        options.program.is_file(),
        "{} is not built: run `cargo build --release --package taskwatch` first",
        options.program.display()
    );
    let wanted = |attack: &Attack| {
        options.only.is_empty() || options.only.iter().any(|name| name == attack.name || name == attack.finding)
    };
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let attacks = cases::all();
    let stage = Stage::prepare(&options).await?;
    let quiet = stage.quiet().await?;
    println!("{}\n{}", report::head(), quiet.text());
    let mut report = Report { quiet: quiet.clone(), ..Report::default() };
    for attack in attacks.iter().filter(|attack| wanted(attack)) {
        if cases::needs_isolation(attack.name) && !isolation::is_inside() {
            report.untried.push(format!("{} {}: it needs a network of its own", attack.finding, attack.name));
            continue;
        }
        let time = Duration::from_secs(attack.seconds);
        report.rows.push(stage.tried(std::slice::from_ref(attack), time, &quiet).await?);
    }
    if is_wanted("together") {
        let all: Vec<_> = attacks
            .iter()
            .filter(|attack| attack.together && (isolation::is_inside() || !cases::needs_isolation(attack.name)))
            .cloned()
            .collect();
        report.rows.push(stage.tried(&all, options.together, &quiet).await?);
    }
    let row = stage.search().await?;
    println!("{}", row.text());
    report.rows.push(row);
    stage.finish().await?;
    Ok(report)
}

struct Stage {
    ground: Arc<Ground>,
    subject: Arc<Subject>,
    canary: Arc<Canary>,
    secrets: Secrets,
    shown: std::sync::Mutex<Vec<String>>,
    _names: Option<NameServer>,
    _workdir: Workdir,
}

impl Stage {
    async fn prepare(options: &Options) -> Result<Self> {
        let workdir = Workdir::new("attacks")?;
        let mut host = "127.0.0.1";
        let mut names = None;
        if isolation::is_inside() {
            names = Some(NameServer::start()?);
            isolation::use_resolver(&workdir.write("resolv.conf", "nameserver 127.0.0.1\n")?)?;
            host = "canary.test";
        }
        let ground = Arc::new(Ground::prepare().await?);
        let kubeconfig = ground.plane.kubeconfig(OPERATOR)?;
        let arguments = cases::flags();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let subject = Subject::start(options.program.clone(), kubeconfig, &arguments).await?;
        let canary = Canary::start(&ground, host).await?;
        let secrets = Secrets::new(cases::secrets().into_iter().chain([Canary::secret()]));
        let shown = std::sync::Mutex::default();
        Ok(Self { ground, subject, canary, secrets, shown, _names: names, _workdir: workdir })
    }

    /// How the canary fares when nobody attacks, and what memory the operator needs then.
    async fn quiet(&self) -> Result<Row> {
        // What starting took is given back first.
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.subject.forget_peak();
        let from = now_ms();
        tokio::time::sleep(QUIET).await;
        let lags = self.canary.lags(from, now_ms()).await?;
        let health = self.subject.health(from);
        let after = self.subject.usage().await?.rss_bytes;
        let mut faults = health.ends;
        faults.extend(health.refusals);
        ensure!(faults.is_empty(), "the operator is not well even without an attack: {}", faults.join("; "));
        ensure!(lags.samples > 50, "the canary is not polled: only {} samples", lags.samples);
        let what = format!("nothing, for {} s ({} samples)", QUIET.as_secs(), lags.samples);
        Ok(Row { name: "quiet".to_owned(), what, lags, peak: health.peak, after, ..Row::default() })
    }

    /// Tries attacks, all at once, and tells what came of it. Where something was wrong although the operator was up all the time, again:
    /// a busy machine delays things, too, but not each time. Every try is shown.
    async fn tried(&self, attacks: &[Attack], time: Duration, quiet: &Row) -> Result<Row> {
        let mut row = self.attempt(attacks, time, quiet).await?;
        for _ in 0..AGAIN {
            if !row.is_in_doubt() {
                break;
            }
            println!("{}\n       once more:", row.text());
            row = self.attempt(attacks, time, quiet).await?;
        }
        println!("{}", row.text());
        Ok(row)
    }

    async fn attempt(&self, attacks: &[Attack], time: Duration, quiet: &Row) -> Result<Row> {
        let mut plays = Vec::new();
        for attack in attacks {
            plays.push(Play::begin(attack)?);
        }
        self.subject.forget_peak();
        let from = now_ms();
        let results =
            futures::future::join_all(plays.iter().map(|play| play.perform(self, time, attacks.len() > 1))).await;
        let to = now_ms();
        let mut faults = Vec::new();
        for (play, result) in plays.iter().zip(results) {
            let before = if attacks.len() > 1 { format!("{}: ", play.attack.name) } else { String::new() };
            match result {
                Ok(found) => faults.extend(found.into_iter().map(|fault| format!("{before}{fault}"))),
                Err(error) => faults.push(format!("{before}it could not be tried to its end: {error:#}")),
            }
        }
        let measured = plays.iter().map(|play| play.measure_from.load(Ordering::Relaxed)).max().unwrap_or(from);
        let lags = self.canary.lags(measured.max(from), to).await?;
        self.note_shown().await;
        drop(plays);
        self.ground.clean().await?;
        if attacks.iter().any(|attack| !attack.together) {
            self.digest(quiet).await?;
        }
        let bound = quiet.after + quiet.after / 4 + SLACK;
        let after = self.subject.settle(bound, SETTLE).await?;
        let health = self.subject.health(from);
        let mut down: Vec<_> = health.ends.iter().map(|how| format!("the operator ended: {how}")).collect();
        if let Some(first) = health.refusals.first() {
            down.push(format!("liveness failed {} times; first: {first}", health.refusals.len()));
        }
        faults.extend(over("polls", &lags.poll, quiet.lags.poll.ms));
        faults.extend(over("status writes", &lags.write, quiet.lags.write.ms));
        if lags.samples < 10 {
            faults.push(format!("the canary has shown only {} signs of life", lags.samples));
        }
        if after > bound {
            faults.push(format!(
                "memory stays at {} MiB; without the attack it was {}",
                after >> 20,
                quiet.after >> 20
            ));
        }
        let (finding, name, what) = match attacks {
            [one] => (one.finding, one.name, one.what.to_owned()),
            all => ("all", "together", format!("{} attacks at once, for {} s", all.len(), time.as_secs())),
        };
        let (finding, name) = (finding.to_owned(), name.to_owned());
        Ok(Row { finding, name, what, lags, peak: health.peak, after, down, faults })
    }

    /// Waits until the API server has told of all that was deleted: of large objects that takes seconds, and is not the next attack's.
    async fn digest(&self, quiet: &Row) -> Result<()> {
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < DIGEST {
            let from = now_ms();
            tokio::time::sleep(LOOK).await;
            if self.canary.lags(from, now_ms()).await?.server <= lags::bar(quiet.lags.server) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps what the operator shows now: the objects of an attack are deleted after it.
    async fn note_shown(&self) {
        let shown = async {
            let text = self.ground.shown().await? + &self.subject.metrics().await?;
            anyhow::Ok(self.secrets.found_in(&text))
        };
        match shown.await {
            Ok(found) => self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(found),
            Err(error) => println!("       (what is shown could not be read: {error:#})"),
        }
    }

    /// Looks for every secret that was used in everything that the operator has shown: statuses, events, metrics, logs.
    async fn search(&self) -> Result<Row> {
        self.note_shown().await;
        let mut faults = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let logs = self.subject.logs().await;
        let lines: usize = logs.iter().map(|log| log.lines().count()).sum();
        ensure!(lines > 0, "the operator has logged nothing");
        for log in logs {
            faults.extend(self.secrets.found_in(&log).into_iter().map(|found| format!("in the log: {found}")));
        }
        faults.sort();
        faults.dedup_by_key(|fault| fault.split(": …").next().unwrap_or_default().to_owned());
        let what = format!("all statuses, events, metrics and {lines} lines of log are searched for every secret");
        Ok(Row { finding: "F3".to_owned(), name: "secrets".to_owned(), what, faults, ..Row::default() })
    }

    async fn finish(self) -> Result<()> {
        self.canary.finish();
        self.subject.finish().await
    }
}

/// An attack that is being tried.
struct Play {
    attack: Attack,
    upstreams: Vec<Upstream>,
    place: Place,
    measure_from: AtomicI64,
}

impl Play {
    fn begin(attack: &Attack) -> Result<Self> {
        let start = |server: &Server| {
            let address = SocketAddr::new(server.address.parse()?, server.port);
            Upstream::start_on(address, server.wire, server.script)
        };
        let upstreams = attack.upstreams.iter().map(start).collect::<Result<Vec<_>>>()?;
        let trust = |upstream: &Upstream| {
            upstream.ca().map_or_else(|| serde_json::json!({}), |ca| serde_json::json!({"tls": {"caBundle": ca}}))
        };
        let place = Place {
            name: attack.name,
            urls: upstreams.iter().map(Upstream::url).collect(),
            trust: upstreams.iter().map(trust).collect(),
        };
        Ok(Self { attack: attack.clone(), upstreams, place, measure_from: AtomicI64::new(now_ms()) })
    }

    /// Makes the objects, does what is to be done beside for so long, and judges.
    ///
    /// Of many at once, each begins when its objects are there and all end together; what one must not achieve by itself is not judged then.
    async fn perform(&self, stage: &Stage, time: Duration, among_many: bool) -> Result<Vec<String>> {
        let (begun, begun_ms) = (tokio::time::Instant::now(), now_ms());
        let objects = (self.attack.objects)(&self.place);
        let wanted = objects.len();
        let made = stage.ground.create_all(objects).await?;
        ensure!(wanted == 0 || made.created > 0, "all {} objects were refused", made.refused);
        let scene = Scene {
            ground: &stage.ground,
            subject: &stage.subject,
            upstreams: &self.upstreams,
            place: &self.place,
            begun_ms,
            there_ms: now_ms(),
            measure_from: &self.measure_from,
        };
        let until = if among_many { begun } else { tokio::time::Instant::now() } + time;
        if let Some(act) = self.attack.act {
            if let Ok(done) = tokio::time::timeout_at(until, act(&scene)).await {
                done.with_context(|| format!("the act of {}", self.attack.name))?;
                if self.attack.together {
                    tokio::time::sleep_until(until).await;
                }
            }
        } else {
            tokio::time::sleep_until(until).await;
        }
        match self.attack.judge {
            Some(judge) if !among_many => judge(&scene).await,
            _ => Ok(Vec::new()),
        }
    }
}

fn over(what: &str, late: &Late, quiet: i64) -> Option<String> {
    let (lag, bar) = (late.ms, lags::bar(quiet));
    let told = || format!("the canary's {what}: p99 {lag} ms late ({}); quiet {quiet} ms, at most {bar} ms", late.what);
    (lag > bar).then(told)
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
