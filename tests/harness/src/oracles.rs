//! The oracles: what other tools make of an object, by those tools' own libraries (`tests/oracles`).

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::binary::{build, workspace_root};

// From a slow proxy of Go modules, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_mins(20);
// An answer takes less than a millisecond; a script is stopped after a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The program that answers for the libraries. One answers for the whole process, one question after another.
pub struct Oracles(Mutex<Running>);

struct Running {
    child: Child,
    questions: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Oracles {
    /// The one of this process. The first time on a machine it is built, which takes minutes.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<std::result::Result<Oracles, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    fn start() -> Result<Self> {
        let program = built()?.join("oracles");
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let questions = child.stdin.take().context("it has no standard input")?;
        let said = child.stdout.take().context("it has no standard output")?;
        let (sender, answers) = mpsc::channel();
        // It ends with the program, which ends with its standard input: with this process at the latest.
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self(Mutex::new(Running { child, questions, answers })))
    }

    /// The answer to one question; `main.go` says how they look.
    ///
    /// # Errors
    /// When the oracle has an error in place of an answer, or does not answer in time.
    pub fn ask(&self, question: &Value) -> Result<Value> {
        // A question that panicked half-way would have ended the program, and the next one says so.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(running.questions, "{question}").context("the oracles do not listen")?;
        let line = running.answers.recv_timeout(ANSWER_LIMIT);
        if line.is_err() {
            // What it says later would be taken for the answer to the next question.
            let _ = running.child.kill();
        }
        let answer: Value = serde_json::from_str(&line.context("the oracles do not answer")?)?;
        match answer["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    /// What kstatus says of an object: `Current`, `InProgress` or `Failed`. Helm 4 and Flux wait by it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn kstatus(&self, object: &Value) -> Result<String> {
        self.word(&json!({"oracle": "kstatus", "object": object}))
    }

    /// The health that Argo CD shows of an object, by the script in `deploy/argocd`.
    ///
    /// # Errors
    /// As [`Self::ask`], or when there is no script for the kind.
    pub fn argocd(&self, object: &Value) -> Result<String> {
        let kind = object["kind"].as_str().context("an object without a kind")?;
        let script = script(kind, "health.lua")?;
        self.word(&json!({"oracle": "argocd-health", "object": object, "script": script}))
    }

    /// Whether the conditions of an object keep the rules that Flux has for its own; the error is the fault.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn flux(&self, object: &Value) -> Result<()> {
        self.ask(&json!({"oracle": "flux-conditions", "object": object})).map(drop)
    }

    fn word(&self, question: &Value) -> Result<String> {
        let answer = self.ask(question)?;
        Ok(answer["status"].as_str().context("an answer without a status")?.to_owned())
    }
}

/// A script of `deploy/argocd` for a kind.
///
/// # Errors
/// When there is none.
pub fn script(kind: &str, name: &str) -> Result<String> {
    let path = workspace_root().join("deploy/argocd/taskwatch.dev").join(kind).join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The directory with the program; the first call may take the time of building it.
fn built() -> Result<std::path::PathBuf> {
    // On a thread of its own: the caller may be in a runtime, and need not be.
    let build = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(build("oracles", &[], BUILD_LIMIT))
    };
    std::thread::spawn(build).join().map_err(|_| anyhow!("the build of the oracles panicked"))?
}
