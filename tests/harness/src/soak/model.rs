//! What exists upstream, and how it moves: the connections' scopes and credentials, and the script of every task. The simulator plays
//! these scripts; the checks hold what the operator says against them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::rng::Rng;

/// Where most objects live; it stays.
pub(super) const HOME: &str = "soak-home";
/// A namespace that is deleted and made again.
pub(super) const FLEETING: &str = "soak-fleeting";
/// Where the sets are, and the connections that they find tasks by.
pub(super) const SETS: &str = "soak-sets";
/// Where the operator's own Secrets are.
pub(super) const SYSTEM: &str = "taskwatch-system";

/// The grace of watches whose task is not meant to be lost, in seconds: longer than anything here says wrongly that it is gone.
pub(super) const LONG_GRACE: u64 = 30;

/// Text as an upstream should not send it.
pub(super) fn hostile() -> String {
    let begin =
        "disk\r\n\tfull\u{1b}[31m red\u{1b}[0m\u{1b}]0;title\u{7} \u{202e}desrever\u{2066}\u{200f}\u{0}\u{9b}2J";
    format!("{begin} {}", "A".repeat(64 << 10))
}

/// The form of a system's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Huawei,
    CloudRu,
    Astra,
}

impl System {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Huawei => "huaweiCloud",
            Self::CloudRu => "cloudRu",
            Self::Astra => "astraControl",
        }
    }

    /// The upstream's words for our states.
    fn state(self, state: &str) -> &'static str {
        match (self, state) {
            (Self::Huawei, "Pending") => "INIT",
            (Self::Huawei, "Succeeded") => "SUCCESS",
            (Self::Huawei, "Failed") => "FAIL",
            (Self::Huawei, _) => "RUNNING",
            (Self::CloudRu, "Pending") => "PENDING",
            (Self::CloudRu, "Paused") => "PAUSED",
            (Self::CloudRu, "Succeeded") => "DONE",
            (Self::CloudRu, "Failed") => "ERROR",
            (Self::CloudRu, "Cancelled") => "CANCELLED",
            (Self::CloudRu, _) => "IN_PROGRESS",
            (Self::Astra, "Pending") => "notStarted",
            (Self::Astra, "Paused") => "paused",
            (Self::Astra, "Succeeded") => "completed",
            (Self::Astra, "Failed") => "failed",
            (Self::Astra, "Cancelled") => "cancelled",
            (Self::Astra, _) => "running",
        }
    }

    fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Huawei => &["Succeeded", "Failed"],
            _ => &["Succeeded", "Failed", "Cancelled"],
        }
    }
}

/// How a connection proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Token,
    AccessKey,
    Password,
    Key,
    OAuth2,
}

/// One connection and the scope behind it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) name: &'static str,
    pub(super) system: System,
    pub(super) proof: Proof,
    /// A `ClusterTaskConnection`.
    pub(super) shared: bool,
    pub(super) namespace: &'static str,
    pub(super) scope: String,
    pub(super) per_second: u32,
    pub(super) burst: u32,
    pub(super) in_flight: u32,
    /// Its tokens live as long as they say.
    pub(super) honest: bool,
    /// It speaks https.
    pub(super) tls: bool,
    /// The present secret has this number.
    pub(super) serial: u32,
}

pub(super) const TIMEOUT_SECONDS: u32 = 4;

/// The connections whose upstream and token endpoint are reached by https: one that gets, and one that lists.
const SPEAK_TLS: [&str; 2] = ["hw-iam", "as-token"];

/// Where a connection finds its upstream.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) url: String,
    /// The CA to trust there.
    pub(super) ca_pem: Option<String>,
}

impl Connection {
    pub(super) fn secret(&self, serial: u32) -> String {
        format!("soak-secret-of-{}-{serial:04}", self.name)
    }

    /// Whether it exchanges its credential for a token.
    pub(super) fn exchanges(&self) -> bool {
        !matches!(self.proof, Proof::Token | Proof::AccessKey)
    }

    /// The beginning of the simulator's route of its token endpoint.
    pub(super) fn token_route(&self) -> Option<&'static str> {
        match self.proof {
            Proof::Password => Some("/v3/auth/tokens"),
            Proof::Key => Some("/api/v1/auth/token"),
            Proof::OAuth2 => Some("/oauth2/token"),
            Proof::Token | Proof::AccessKey => None,
        }
    }

    /// As a scope of the simulator, with the secret of that number.
    pub(super) fn scope_spec(&self) -> Value {
        let secret = self.secret(self.serial);
        let (said, actual) = (600, if self.honest { 600 } else { 45 });
        let credential = match self.proof {
            Proof::Token => json!({"kind": "token", "token": secret}),
            Proof::AccessKey => json!({"kind": "accessKey", "accessKey": "SOAKACCESSKEY", "secretKey": secret}),
            // Its token dies long before the time that it was said to.
            Proof::Password => json!({"kind": "password", "user": "soak", "password": secret, "domain": "soak",
                "tokenSeconds": said, "actualTokenSeconds": actual}),
            Proof::Key => json!({"kind": "key", "keyId": "soak", "secret": secret, "tokenSeconds": 60}),
            Proof::OAuth2 => {
                json!({"kind": "oauth2", "clientId": "soak", "clientSecret": secret, "tokenSeconds": 70})
            }
        };
        let options = match self.system {
            // Sets need whole lists, and theirs are long. That the documents know no `continue` is tried with the other accounts.
            System::Astra => json!({"pageSize": 15, "acceptContinue": self.has_sets()}),
            System::Huawei if self.proof == Proof::Password => json!({"expiredToken": "service"}),
            _ => json!({}),
        };
        json!({"provider": self.system.word(), "id": self.scope, "name": self.name, "credentials": [credential], "options": options})
    }

    /// The keys of its Secret.
    pub(super) fn secret_data(&self, secret: &str) -> Value {
        match self.proof {
            Proof::Token => json!({"token": secret}),
            Proof::AccessKey => json!({"accessKey": "SOAKACCESSKEY", "secretKey": secret}),
            Proof::Password => json!({"username": "soak", "password": secret, "domain": "soak"}),
            Proof::Key => json!({"keyID": "soak", "secret": secret}),
            Proof::OAuth2 => json!({"clientID": "soak", "clientSecret": secret}),
        }
    }

    /// As an object for the API server.
    pub(super) fn manifest(&self, way: &Way) -> Value {
        let upstream = &way.url;
        let provider = match self.system {
            System::Huawei => json!({"huaweiCloud": {"endpoint": upstream, "projectID": self.scope}}),
            System::CloudRu => json!({"cloudRu": {"endpoint": upstream, "serviceInstanceID": self.scope}}),
            System::Astra => json!({"astraControl": {"endpoint": upstream, "accountID": self.scope}}),
        };
        let reference = json!({"name": self.name});
        let auth = match self.proof {
            Proof::Token => json!({"token": {"secretRef": reference}}),
            Proof::AccessKey => json!({"accessKey": {"secretRef": reference}}),
            Proof::Password => json!({"keystone": {"endpoint": upstream, "secretRef": reference}}),
            Proof::Key => json!({"cloudRuKey": {"endpoint": upstream, "secretRef": reference}}),
            Proof::OAuth2 => {
                json!({"oauth2": {"tokenURL": format!("{upstream}/oauth2/token"), "secretRef": reference}})
            }
        };
        let mut object = json!({
            "apiVersion": "taskwatch.dev/v1alpha1",
            "kind": if self.shared { "ClusterTaskConnection" } else { "TaskConnection" },
            "metadata": {"name": self.name},
            "spec": {
                "provider": provider, "auth": auth, "requestTimeoutSeconds": TIMEOUT_SECONDS,
                "rateLimit": {"requestsPerSecond": self.per_second, "burst": self.burst, "maxInFlight": self.in_flight},
                "poll": {"minPeriodSeconds": 1, "maxPeriodSeconds": 8},
            },
        });
        if let Some(pem) = &way.ca_pem {
            object["spec"]["tls"] = json!({"caBundle": pem});
        }
        if self.shared {
            object["spec"]["allowedNamespaces"] =
                json!({"names": [HOME], "selector": {"matchLabels": {"soak": "yes"}}});
        } else {
            object["metadata"]["namespace"] = self.namespace.into();
        }
        object
    }

    /// Whether sets find their tasks by it.
    pub(super) fn has_sets(&self) -> bool {
        self.namespace == SETS
    }

    /// Where its Secret is.
    pub(super) fn secret_namespace(&self) -> &'static str {
        if self.shared { SYSTEM } else { self.namespace }
    }
}

/// The connections of a run.
pub(super) fn connections() -> Vec<Connection> {
    let make = |name, system, proof, namespace, (per_second, burst, in_flight), scope: &str| Connection {
        name,
        system,
        proof,
        shared: namespace == SYSTEM,
        namespace,
        scope: scope.to_owned(),
        per_second,
        burst,
        in_flight,
        honest: false,
        tls: SPEAK_TLS.contains(&name),
        serial: 1,
    };
    let uuid = |n: u32| format!("50a4{n:04}-0000-4000-8000-000000000000");
    vec![
        make("hw-ak", System::Huawei, Proof::AccessKey, HOME, (12, 6, 4), "50a400000000000000000000000000a1"),
        make("hw-iam", System::Huawei, Proof::Password, HOME, (15, 10, 8), "50a400000000000000000000000000a2"),
        make("hw-fleeting", System::Huawei, Proof::Token, FLEETING, (10, 5, 3), "50a400000000000000000000000000a3"),
        make("cr-key", System::CloudRu, Proof::Key, HOME, (5, 10, 8), &uuid(11)),
        make("cr-token", System::CloudRu, Proof::Token, HOME, (8, 4, 2), &uuid(12)),
        make("as-token", System::Astra, Proof::Token, HOME, (6, 10, 4), &uuid(21)),
        make("as-shared", System::Astra, Proof::OAuth2, SYSTEM, (8, 8, 4), &uuid(22)),
        make("cr-sets", System::CloudRu, Proof::Token, SETS, (6, 6, 4), &uuid(13)),
        make("as-sets", System::Astra, Proof::Token, SETS, (8, 10, 4), &uuid(23)),
    ]
}

/// One step of a script.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) at_ms: i64,
    pub(super) state: &'static str,
    pub(super) percent: u64,
    pub(super) gone: bool,
}

impl Step {
    /// Whether it is the end of the task.
    pub(super) fn is_end(&self) -> bool {
        !self.gone && matches!(self.state, "Succeeded" | "Failed" | "Cancelled")
    }
}

/// One task upstream and its script, in times of the machine's clock.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) connection: usize,
    pub(super) id: String,
    pub(super) start_ms: i64,
    pub(super) steps: Vec<Step>,
    pub(super) hostile: bool,
    /// Its name, where that is not hostile.
    pub(super) word: &'static str,
}

/// The names that tasks have.
const WORDS: &[&str] = &["soakTask-red", "soakTask-blue"];

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs, and ends or not.
    Usual,
    /// It is gone for some seconds and comes back.
    Flickers,
    /// From some time on it is not known any more.
    Vanishes,
    /// It was never there.
    Absent,
}

impl Task {
    /// When it reaches its end, and which.
    pub(super) fn end(&self) -> Option<(i64, &'static str)> {
        self.steps.iter().find(|step| step.is_end()).map(|step| (step.at_ms, step.state))
    }

    /// When it is first not known any more.
    pub(super) fn gone_from(&self) -> Option<i64> {
        self.steps.iter().find(|step| step.gone).map(|step| step.at_ms)
    }

    /// Whether it was ever in this state by `now`.
    pub(super) fn was(&self, state: &str, now: i64) -> bool {
        self.steps.iter().any(|step| !step.gone && step.state == state && step.at_ms <= now)
    }

    /// Its name upstream.
    pub(super) fn name(&self) -> String {
        if self.hostile { hostile() } else { self.word.to_owned() }
    }

    fn spec(&self, connection: &Connection, now: i64) -> Value {
        let seconds = |ms: i64| Value::from(f64::from(i32::try_from(ms).unwrap_or_default()) / 1000.0);
        let steps = self.steps.iter().map(|step| {
            let mut out = json!({"at": seconds(step.at_ms - self.start_ms), "state": connection.system.state(step.state),
                "percent": step.percent, "gone": step.gone});
            if step.state == "Failed" {
                let message = if self.hostile { hostile() } else { format!("sold out: {}", self.id) };
                match connection.system {
                    System::Huawei => out["error"] = json!({"code": "EVS.5400", "message": message}),
                    System::CloudRu => out["error"] = json!({"code": 8, "message": message}),
                    System::Astra => {
                        out["details"] = json!([{"type": "https://astra.netapp.io/stateDetails/24", "title": message, "detail": message}]);
                    }
                }
            }
            out
        });
        json!({"provider": connection.system.word(), "scope": connection.scope, "id": self.id, "name": self.name(),
            "ago": seconds(now - self.start_ms), "steps": steps.collect::<Vec<_>>()})
    }
}

/// All of it.
pub(super) struct World {
    pub(super) connections: Vec<Connection>,
    pub(super) tasks: HashMap<(usize, String), Task>,
    /// All scripts are at their end by then.
    pub(super) quiet_ms: i64,
    serial: u64,
}

impl World {
    pub(super) fn new(quiet_ms: i64) -> Self {
        Self { connections: connections(), tasks: HashMap::new(), quiet_ms, serial: 0 }
    }

    /// Writes a script for a new task; its ID. One that is never there has none.
    pub(super) fn make_task(&mut self, connection: usize, fate: Fate, rng: &mut Rng, now: i64) -> String {
        self.serial += 1;
        let system = self.connections[connection].system;
        let id = match system {
            System::Huawei => format!("50a4{connection:04x}{:024x}", self.serial),
            System::CloudRu | System::Astra => {
                format!("50a4{connection:04x}-{:04x}-4000-8000-{:012x}", rng.below(0xffff), self.serial)
            }
        };
        if fate == Fate::Absent {
            return id;
        }
        let left = u64::try_from((self.quiet_ms - now).max(2000)).unwrap_or(2000);
        let end = now + i64::try_from(rng.between(left / 10, left - 1)).unwrap_or_default();
        let ends = rng.chance(75) && fate == Fate::Usual;
        let mut steps = vec![Step { at_ms: now, state: "Pending", percent: 0, gone: false }];
        let count = rng.between(2, 6);
        for n in 1..=count {
            let at_ms = now + (end - now) * i64::try_from(n).unwrap_or(1) / i64::try_from(count + 1).unwrap_or(1);
            let paused = system != System::Huawei && rng.chance(20);
            let state = if paused { "Paused" } else { "Running" };
            steps.push(Step { at_ms, state, percent: n * 90 / count, gone: false });
        }
        let last = Step { at_ms: end, state: "Running", percent: 95, gone: false };
        match fate {
            Fate::Usual if ends => {
                let state = *rng.pick(system.ends());
                let percent = if state == "Succeeded" { 100 } else { 95 };
                steps.push(Step { state, percent, ..last });
            }
            Fate::Flickers => {
                let back = (end + 3000).min(self.quiet_ms.max(end + 500));
                steps.push(Step { gone: true, ..last.clone() });
                steps.push(Step { at_ms: back, ..last });
            }
            Fate::Vanishes => steps.push(Step { gone: true, ..last }),
            Fate::Usual | Fate::Absent => {}
        }
        let (hostile, word) = (rng.chance(15), *rng.pick(WORDS));
        let task = Task { connection, id: id.clone(), start_ms: now, steps, hostile, word };
        self.tasks.insert((connection, id.clone()), task);
        id
    }

    pub(super) fn task(&self, connection: &str, id: &str) -> Option<&Task> {
        self.tasks.get(&(self.index(connection)?, id.to_owned()))
    }

    pub(super) fn index(&self, connection: &str) -> Option<usize> {
        self.connections.iter().position(|c| c.name == connection)
    }

    /// The body by which one task is told to the simulator, and the path.
    pub(super) fn put_task(&self, connection: usize, id: &str, now: i64) -> Option<(String, Value)> {
        let task = self.tasks.get(&(connection, id.to_owned()))?;
        let connection = &self.connections[connection];
        let mut body = task.spec(connection, now);
        for key in ["provider", "scope", "id"] {
            body.as_object_mut()?.remove(key);
        }
        Some((format!("/tasks/{}/{}/{id}", connection.system.word(), connection.scope), body))
    }

    /// Everything, as a simulator that starts now is told it.
    pub(super) fn scenario(&self, now: i64) -> Value {
        let scopes: Vec<_> = self.connections.iter().map(Connection::scope_spec).collect();
        let tasks: Vec<_> = self.tasks.values().map(|t| t.spec(&self.connections[t.connection], now)).collect();
        json!({"scopes": scopes, "tasks": tasks})
    }
}

/// The machine's clock, in milliseconds.
pub(super) fn now_ms() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
