//! One guarded program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{Usage, Workdir, binary};

const START_LIMIT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
// The guard gives the program ten seconds before it kills it.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a program ended. Both are `None` when even its guard was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

#[derive(Default)]
struct State {
    pid: Option<u32>,
    failure: Option<String>,
    exit: Option<Exit>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A program that runs under `taskwatch-guard`: it is stopped when this value is dropped, and when this process ends in any way.
///
/// Bound to no runtime, so that tests with a runtime each may share it.
pub struct Process {
    name: String,
    pid: u32,
    guard: Mutex<Option<ChildStdin>>,
    state: Shared,
    workdir: Arc<Workdir>,
    tail_on_panic: usize,
}

impl Process {
    /// Starts `command` (its program, arguments and environment) with its output in the files `name.out` and `name.log` of
    /// `workdir`.
    ///
    /// # Errors
    /// When the guard is not built, or the program cannot be started.
    pub fn start(workdir: &Arc<Workdir>, name: &str, command: &Command) -> Result<Self> {
        let mut guard = Command::new(binary("taskwatch-guard")?);
        guard.arg(workdir.path()).arg(name).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(key, value),
                None => guard.env_remove(key),
            };
        }
        guard.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = guard.spawn().with_context(|| format!("cannot start the guard of {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the guard has no output")?;
        let state = Shared::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                hear(&shared, &line);
            }
            lock(&shared.0).exit.get_or_insert_default();
            shared.1.notify_all();
            let _ = child.wait();
        });
        let (mutex, changed) = &*state;
        let (heard, _) = changed
            .wait_timeout_while(lock(mutex), START_LIMIT, |s| s.pid.is_none() && s.exit.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let pid = match (heard.pid, &heard.failure) {
            (Some(pid), _) => pid,
            (None, Some(failure)) => bail!("{name}: {failure}"),
            (None, None) => bail!("the guard of {name} did not start it within {START_LIMIT:?}"),
        };
        drop(heard);
        let (name, workdir) = (name.to_owned(), Arc::clone(workdir));
        Ok(Self { name, pid, guard: Mutex::new(stdin), state, workdir, tail_on_panic: 0 })
    }

    /// Prints the last `lines` lines of its log when it is dropped by a panic, as a failed test does.
    #[must_use]
    pub fn tail_on_panic(mut self, lines: usize) -> Self {
        self.tail_on_panic = lines;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory that holds its output.
    #[must_use]
    pub fn workdir(&self) -> &Path {
        self.workdir.path()
    }

    /// The file with its standard error.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.workdir.path().join(format!("{}.log", self.name))
    }

    /// What it has written to standard error, of all its starts in this directory.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log_path())
    }

    /// What it has written to standard output.
    #[must_use]
    pub fn output(&self) -> String {
        read(&self.workdir.path().join(format!("{}.out", self.name)))
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all = log.lines().collect::<Vec<_>>();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        lock(&self.state.0).exit
    }

    /// Memory and processor time now.
    ///
    /// # Errors
    /// When it has ended, or there is no `/proc`.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid)
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// When it has ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(&self) -> Result<()> {
        self.signal("KILL")
    }

    /// Suspends it (SIGSTOP), as a machine does that has no processor time to give.
    ///
    /// # Errors
    /// When it has ended.
    pub fn suspend(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Lets a suspended process continue (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub async fn wait(&self, limit: Duration) -> Result<Exit> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(exit) = self.exit() {
                return Ok(exit);
            }
            if Instant::now() >= deadline {
                bail!("{} did not end within {limit:?}", self.name);
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Stops it: SIGTERM, and SIGKILL after ten seconds.
    ///
    /// # Errors
    /// When even that does not end it.
    pub async fn stop(&self) -> Result<Exit> {
        drop(lock(&self.guard).take());
        self.wait(STOP_LIMIT).await
    }

    fn signal(&self, name: &str) -> Result<()> {
        // By way of the guard: as the parent it knows that the number still belongs to this program.
        let mut guard = lock(&self.guard);
        let stdin = guard.as_mut().with_context(|| format!("{} is being stopped", self.name))?;
        writeln!(stdin, "{name}").with_context(|| format!("{} has ended", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.tail_on_panic > 0 && std::thread::panicking() {
            let (name, lines) = (&self.name, self.tail_on_panic);
            eprintln!("---- {name}: last {lines} lines of its log\n{}\n---- end of {name}", self.log_tail(lines));
        }
    }
}

fn hear(shared: &Shared, line: &str) {
    let (mutex, changed) = &**shared;
    let mut state = lock(mutex);
    match line.split_once(' ') {
        Some(("started", pid)) => state.pid = pid.parse().ok(),
        Some(("failed", why)) => state.failure = Some(why.to_owned()),
        Some(("exited", code)) => state.exit = Some(Exit { code: code.parse().ok(), signal: None }),
        Some(("killed", signal)) => state.exit = Some(Exit { code: None, signal: signal.parse().ok() }),
        _ => {}
    }
    changed.notify_all();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
