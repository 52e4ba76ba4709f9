//! Runs one program for as long as whoever started the guard lives.
//!
//! `taskwatch-guard DIRECTORY NAME PROGRAM [ARGUMENT…]` starts the program with its output in `DIRECTORY/NAME.out` and
//! `NAME.log`, writes `started PID` to standard output, and `exited CODE` or `killed SIGNAL` when it has ended. Each line of
//! standard input is the name of a signal to send. At its end, which the kernel brings about however the other side died, the
//! program is stopped: SIGTERM, and SIGKILL after ten seconds.
//!
//! Guard and program have a session of their own. So Ctrl-C in the terminal is for the tests, and the guard then cleans up in its own
//! time; and where the kernel shares the processors out by session (`sched_autogroup`), each program has its own share, as it has on a
//! node where it is a pod, however many threads another one runs.

use std::fs::OpenOptions;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, setsid};
use taskwatch_harness::Workdir;

const TICK: Duration = Duration::from_millis(20);
// The operator drains for up to eight.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed {error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    setsid().context("cannot begin a session")?;
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: taskwatch-guard DIRECTORY NAME PROGRAM [ARGUMENT…]";
    let directory = arguments.next().context(usage)?;
    let name = arguments.next().context(usage)?.into_string().ok().context("the name is no text")?;
    let program = arguments.next().context(usage)?;
    let workdir = Workdir::join(Path::new(&directory))?;
    let open = |suffix: &str| {
        let path = workdir.path().join(format!("{name}.{suffix}"));
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(open("out")?)
        .stderr(open("log")?)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    say(&format!("started {}", child.id()));
    let (send, commands) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let status = supervise(&mut child, &commands)?;
    say(&match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited {code}"),
        (None, signal) => format!("killed {}", signal.unwrap_or_default()),
    });
    Ok(())
}

/// Only this thread signals and reaps, so a signal never reaches another process that has got the same number.
fn supervise(child: &mut Child, commands: &Receiver<String>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return Ok(status);
        }
        match commands.recv_timeout(TICK) {
            Ok(name) => signal(child, &name),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return stop(child),
        }
    }
}

fn stop(child: &mut Child) -> Result<ExitStatus> {
    signal(child, "TERM");
    // A process that was suspended takes the signal only when it continues.
    signal(child, "CONT");
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return Ok(status);
        }
        std::thread::sleep(TICK);
    }
    child.kill().context("cannot kill the program")?;
    child.wait().context("cannot wait for the program")
}

fn signal(child: &Child, name: &str) {
    let signal = match name {
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        _ => return,
    };
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Whoever started the guard may be gone: then nobody wants to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
