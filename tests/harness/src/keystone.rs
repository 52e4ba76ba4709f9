//! A real OpenStack Keystone, the identity service whose API Huawei Cloud's IAM v3 is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{Process, Workdir, binary::build, eventually, http, ports::free_port, workspace_root};

const ATTEMPTS: usize = 5;
const READY_LIMIT: Duration = Duration::from_mins(2);
// From a slow index of packages, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_mins(40);
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// A request of the administrator is tried with so many tokens.
const TOKENS: u32 = 5;
const CONFIG: &str = "keystone.conf";
/// As `tests/keystone/build` sets it up.
const ADMIN_PASSWORD: &str = "adminpw";

/// A running Keystone with a database of its own, in which there is a domain `Default` and in that the administrator.
pub struct Keystone {
    process: Process,
    url: String,
    /// Held by the request of the administrator that is under way.
    turn: tokio::sync::Mutex<()>,
}

/// A user, and the project on which it has the role `member`.
#[derive(Clone, Debug)]
pub struct KeystoneUser {
    /// The user's ID.
    pub user: String,
    /// The project's ID.
    pub project: String,
}

impl Keystone {
    /// Starts one whose tokens live for so many seconds, and waits until it gives out tokens: about 6 s; the first time on a machine
    /// it is installed, which takes about a minute and a half.
    ///
    /// # Errors
    /// When it cannot be installed, or does not come up; with the end of its log.
    pub async fn start(token_seconds: u32) -> Result<Self> {
        let installed = installed().await?;
        for attempt in 1.. {
            let keystone = Self::spawn(&installed, token_seconds)?;
            match keystone.wait_ready().await {
                Ok(()) => return Ok(keystone),
                // Somebody else took the port in between.
                Err(_) if attempt < ATTEMPTS && keystone.process.log().contains("ddress already in use") => {}
                Err(error) => {
                    return Err(error.context(format!("end of its log:\n{}", keystone.process.log_tail(20))));
                }
            }
        }
        bail!("no free port")
    }

    fn spawn(installed: &Path, token_seconds: u32) -> Result<Self> {
        let workdir = Arc::new(Workdir::new("keystone")?);
        copy(&installed.join("template"), workdir.path())?;
        let source = workspace_root().join("tests/keystone");
        let config = std::fs::read_to_string(source.join(CONFIG)).context("the configuration of Keystone")?;
        let config = config
            .replace("@DIRECTORY@", &workdir.path().to_string_lossy())
            .replace("@EXPIRATION@", &token_seconds.to_string());
        let config = workdir.write(CONFIG, &config)?;
        let port = free_port()?;
        let mut command = Command::new(installed.join("venv/bin/python"));
        command.arg(source.join("serve.py")).arg(port.to_string());
        command.env("OS_KEYSTONE_CONFIG_FILES", config).env("PYTHONDONTWRITEBYTECODE", "1");
        let process = Process::start(&workdir, "keystone", &command)?.tail_on_panic(20);
        Ok(Self { process, url: format!("http://127.0.0.1:{port}/v3"), turn: tokio::sync::Mutex::default() })
    }

    async fn wait_ready(&self) -> Result<()> {
        let ended = eventually(READY_LIMIT, "Keystone gives out tokens", || async {
            match self.process.exit() {
                Some(exit) => Ok(Some(exit)),
                None => self.sign_in().await.map(|_| None),
            }
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(exit) => bail!("Keystone ended ({exit:?})"),
        }
    }

    /// A token of the administrator.
    async fn sign_in(&self) -> Result<String> {
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": "admin", "password": ADMIN_PASSWORD, "domain": {"id": "default"},
            }}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }});
        let answer = http::exchange("POST", &self.url, "/auth/tokens?nocatalog", &[], Some(&body.to_string())).await?;
        ensure!(answer.status == 201, "it answers {}: {}", answer.status, answer.body);
        answer.header("x-subject-token").map(str::to_owned).context("no token in its answer")
    }

    /// Where its API is: `http://127.0.0.1:PORT/v3`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a project, and a user who is a member of it, both in the domain `Default`.
    ///
    /// # Errors
    /// When Keystone refuses.
    pub async fn add_user(&self, user: &str, password: &str, project: &str) -> Result<KeystoneUser> {
        let id = |answer: &Value, what: &str| -> Result<String> {
            answer.pointer(&format!("/{what}/id")).and_then(Value::as_str).map(str::to_owned).context("no ID")
        };
        let made = json!({"project": {"name": project, "domain_id": "default"}});
        let project = id(&self.admin("POST", "/projects", Some(&made)).await?, "project")?;
        let made = json!({"user": {"name": user, "password": password, "domain_id": "default"}});
        let user = id(&self.admin("POST", "/users", Some(&made)).await?, "user")?;
        let roles = self.admin("GET", "/roles?name=member", None).await?;
        let role = roles.pointer("/roles/0/id").and_then(Value::as_str).context("no role `member`")?;
        self.admin("PUT", &format!("/projects/{project}/users/{user}/roles/{role}"), None).await?;
        Ok(KeystoneUser { user, project })
    }

    /// Changes a user: `{"password": …}`, `{"enabled": false}`.
    ///
    /// # Errors
    /// When Keystone refuses.
    pub async fn change_user(&self, user: &KeystoneUser, change: &Value) -> Result<()> {
        let (path, change) = (format!("/users/{}", user.user), json!({"user": change}));
        // Seen once: 500 while the operator signed in, as a SQLite database with one writer at a time may give.
        eventually(CHANGE_LIMIT, "the user is changed", || self.admin("PATCH", &path, Some(&change))).await.map(drop)
    }

    /// A request of the administrator (`path` begins behind `/v3`); the answer must be a success. The administrator's token is a
    /// fresh one each time: it lives no longer than any other.
    ///
    /// # Errors
    /// When there is no answer or it is no 2xx.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string);
        // One at a time: there is one worker, and one writer of the database.
        let _turn = self.turn.lock().await;
        let mut tokens = 0;
        loop {
            tokens += 1;
            let token = match self.sign_in().await {
                Ok(token) => token,
                // It has one worker, which may have much to do.
                Err(_) if tokens < TOKENS => continue,
                Err(error) => return Err(error),
            };
            let answer = http::exchange(method, &self.url, path, &[("X-Auth-Token", &token)], body.as_deref()).await?;
            match answer.status {
                200..300 => return Ok(serde_json::from_str(&answer.body).unwrap_or_default()),
                // The token ended while the request waited for its turn, as it may on a busy machine.
                401 if tokens < TOKENS => {}
                status => bail!("Keystone answered {status} to {method} {path}: {}", answer.body),
            }
        }
    }

    /// Its process: signals, log, memory.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Copies a directory and what is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("copying {}", from.display());
    std::fs::create_dir_all(to).with_context(what)?;
    for entry in std::fs::read_dir(from).with_context(what)? {
        let entry = entry.with_context(what)?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(what)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(what)?;
        }
    }
    Ok(())
}

/// The directory with the program and the template of its database; the first call may take the time of installing them.
async fn installed() -> Result<PathBuf> {
    build("keystone", &[], BUILD_LIMIT).await
}
