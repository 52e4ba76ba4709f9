//! What an attack is: data, and where data does not do, two small functions.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::Result;
use futures::future::BoxFuture;
use serde_json::Value;

use super::ground::Ground;
use super::subject::Subject;
use super::upstream::{Reply, Script, Upstream, Wire};

/// An attack.
#[derive(Clone)]
pub(super) struct Attack {
    /// The finding of the security review that it stands for, `F1` to `F21`; `held` for what held already.
    pub(super) finding: &'static str,
    /// Its name, which its objects' names begin with.
    pub(super) name: &'static str,
    /// What is done, as a line of the table.
    pub(super) what: &'static str,
    /// How long it goes on once its objects are there.
    pub(super) seconds: u64,
    pub(super) upstreams: Vec<Server>,
    pub(super) objects: fn(&Place) -> Vec<Value>,
    /// What is done beside, once the objects are there. It is ended when the time is up. Where the operator is started for the attack alone,
    /// the attack ends with it.
    pub(super) act: Option<Act>,
    /// What must be so at the end, beside the bars that hold for every attack. Each line is something that is wrong.
    pub(super) judge: Option<Judge>,
    /// Whether it is one of those that are tried all at once.
    pub(super) together: bool,
}

/// An upstream of an attack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) address: &'static str,
    /// 0: any.
    pub(super) port: u16,
    pub(super) wire: Wire,
    pub(super) script: Script,
}

pub(super) type Act = for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, Result<()>>;
pub(super) type Judge = for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, Result<Vec<String>>>;

/// What the objects of an attack are made for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Where the attack's upstreams are.
    pub(super) urls: Vec<String>,
    /// What to lay over the spec of a connection to each, so that its certificate is trusted.
    pub(super) trust: Vec<Value>,
}

/// What acts and judges are given.
pub(super) struct Scene<'a> {
    pub(super) ground: &'a Arc<Ground>,
    pub(super) subject: &'a Arc<Subject>,
    pub(super) upstreams: &'a [Upstream],
    pub(super) place: &'a Place,
    /// When its objects began to be made, and when all were there; milliseconds since 1970.
    pub(super) begun_ms: i64,
    pub(super) there_ms: i64,
    /// The canary is measured from this time on: later than the beginning where the operator is restarted on purpose.
    pub(super) measure_from: &'a AtomicI64,
}

impl Attack {
    /// One that takes ten seconds, without upstream, objects, act or judge.
    pub(super) fn new(finding: &'static str, name: &'static str, what: &'static str) -> Self {
        Self {
            finding,
            name,
            what,
            seconds: 10,
            upstreams: Vec::new(),
            objects: |_| Vec::new(),
            act: None,
            judge: None,
            together: true,
        }
    }

    pub(super) fn upstream(self, wire: Wire, script: Script) -> Self {
        self.upstream_at("127.0.0.1", 0, wire, script)
    }

    pub(super) fn upstream_at(mut self, address: &'static str, port: u16, wire: Wire, script: Script) -> Self {
        self.upstreams.push(Server { address, port, wire, script });
        self
    }

    /// An upstream that speaks HTTP/1.1.
    pub(super) fn plain(self, script: Script) -> Self {
        self.upstream(Wire::Plain, script)
    }

    pub(super) fn objects(mut self, objects: fn(&Place) -> Vec<Value>) -> Self {
        self.objects = objects;
        self
    }

    pub(super) fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    pub(super) fn act(mut self, act: Act) -> Self {
        self.act = Some(act);
        self
    }

    pub(super) fn judge(mut self, judge: Judge) -> Self {
        self.judge = Some(judge);
        self
    }

    /// It is not one of those that are tried all at once.
    pub(super) fn alone(mut self) -> Self {
        self.together = false;
        self
    }
}

impl Place {
    /// Where the first upstream is.
    pub(super) fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// The name of the attack's `n`th object.
    pub(super) fn nth(&self, n: usize) -> String {
        format!("{}-{n}", self.name)
    }
}

/// For upstreams that are never asked.
pub(super) fn silence(_: &super::upstream::Request) -> Reply {
    Reply::Silence
}
