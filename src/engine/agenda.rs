//! What a connection does next and why it waits, in plain sentences and for programs: what `/debug/connections` tells. No text of an
//! upstream is in it, and none of a tenant but names and UIDs of objects.

use std::fmt;

use jiff::{Timestamp, Unit};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    ConnectionId,
    coalesce::Mode,
    health::to_wall,
    planner::{Agenda, Planner, Upcoming, Wait, What, Why},
};

/// What a connection does next, and why it waits.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionAgenda {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// When this was so.
    time: Timestamp,
    /// All that follows, for people.
    says: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    /// Why nothing is sent; none where this replica is not the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Waiting>,
    in_flight: Vec<Flight>,
    in_flight_count: usize,
    next: Vec<Next>,
    waiting: usize,
    polled: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    period_stretch: f64,
    throttled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<Moment>,
}

#[derive(Clone, Debug, Serialize)]
struct Waiting {
    reason: Why,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
    message: String,
}

#[derive(Clone, Debug, Serialize)]
struct Flight {
    operation: &'static str,
    since: Moment,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Next {
    what: &'static str,
    /// Of a list: how many tasks wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    watched_by: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trouble {
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    since: Moment,
}

/// A time, and how far it is ahead.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    time: Timestamp,
    /// Less than nothing is ago.
    in_seconds: f64,
}

/// The state of an actor, beside its planner.
pub(super) struct Circumstances<'a> {
    pub(super) provider: &'a str,
    pub(super) wait: Wait,
    /// The bucket whose Lease another replica has, or may have.
    pub(super) lost_bucket: Option<u16>,
    pub(super) throttled: bool,
}

impl ConnectionAgenda {
    /// Of a connection that is open.
    pub(super) fn of(
        id: &ConnectionId,
        planner: &Planner,
        around: &Circumstances<'_>,
        now: Instant,
        wall: Timestamp,
    ) -> Self {
        let moment = |at: Instant| Moment::of(at, now, wall);
        let Agenda { in_flight, in_flight_count, next, waiting, polled } = planner.agenda();
        let Wait { until, why } = around.wait;
        let wait = Waiting { reason: why, until: until.map(moment), message: why.to_string() };
        let plan = Plan {
            wait: around.lost_bucket.is_none().then_some(wait),
            in_flight: in_flight.into_iter().map(|(operation, at)| Flight { operation, since: moment(at) }).collect(),
            in_flight_count,
            next: next.iter().map(|upcoming| Next::of(upcoming, moment)).collect(),
            waiting,
            polled,
            mode: planner.mode().map(Mode::as_str),
            period_stretch: (planner.stretch() * 100.0).round() / 100.0,
            throttled: around.throttled,
            trouble: planner.trouble().map(|trouble| Trouble {
                class: trouble.failure.class.as_str(),
                http_status: trouble.failure.http_status,
                since: moment(trouble.since),
            }),
            last_success: planner.last_success().map(moment),
        };
        let says = plan.says(around.lost_bucket);
        Self {
            provider: Some(around.provider.to_owned()),
            says,
            plan: Some(plan),
            ..Self::closed(id, String::new(), wall)
        }
    }

    /// Of a connection through which nothing is asked, for this reason.
    #[must_use]
    pub fn closed(id: &ConnectionId, why: String, wall: Timestamp) -> Self {
        let kind = if id.namespace.is_some() { "TaskConnection" } else { "ClusterTaskConnection" };
        Self {
            kind,
            namespace: id.namespace.as_deref().map(str::to_owned),
            name: id.name.to_string(),
            provider: None,
            time: wall.round(Unit::Millisecond).unwrap_or(wall),
            says: vec![why],
            plan: None,
        }
    }
}

impl fmt::Display for ConnectionAgenda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let provider = self.provider.as_ref().map(|provider| format!(" ({provider})")).unwrap_or_default();
        writeln!(f, "{} {namespace}{}{provider}", self.kind, self.name)?;
        self.says.iter().try_for_each(|sentence| writeln!(f, "  {sentence}"))
    }
}

impl Plan {
    fn says(&self, lost_bucket: Option<u16>) -> Vec<String> {
        let mut says = Vec::new();
        if let Some(bucket) = lost_bucket {
            says.push(format!("Asks nothing: this replica does not hold the Lease of bucket {bucket}."));
        }
        says.extend(self.wait.as_ref().map(Waiting::says));
        if self.throttled {
            says.push("Is delayed: its namespace uses more than its share of processing time.".to_owned());
        }
        if self.in_flight_count > 0 {
            let all = self.in_flight.iter().map(|flight| format!("{} for {}", flight.operation, flight.since.ago()));
            says.push(format!("In flight: {}.", enumerated(all, self.in_flight_count)));
        }
        if self.waiting > 0 {
            says.push(format!("Next: {}.", enumerated(self.next.iter().map(Next::says), self.waiting)));
        }
        if self.polled > 0 {
            let mode = match self.mode {
                Some("List") => ", most of them by lists",
                _ => "",
            };
            let stretch = match self.period_stretch {
                stretch if stretch > 1.0 => {
                    format!(
                        "; the periods are {stretch} times as long as wanted, since spec.rateLimit does not suffice"
                    )
                }
                _ => String::new(),
            };
            says.push(format!("Polls {}{mode}{stretch}.", counted(self.polled, "task")));
        }
        if let Some(Trouble { class, http_status, since }) = &self.trouble {
            let status = http_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
            says.push(format!(
                "Has been in trouble for {}: {class}{status}. Its condition Ready has the message.",
                since.ago()
            ));
        }
        match &self.last_success {
            Some(last) => says.push(format!("The last useful answer came {} ago.", last.ago())),
            None => says.push("There has been no useful answer yet.".to_owned()),
        }
        says
    }
}

impl Waiting {
    fn says(&self) -> String {
        let message = &self.message;
        match (self.until, self.reason) {
            (Some(until), _) if until.in_seconds <= 0.0 => format!("Sends a request at once: {message}."),
            (Some(until), _) => format!("Sends nothing for {}, until {}: {message}.", until.ahead(), until.time),
            (None, Why::Nothing) => format!("Sends nothing: {message}."),
            (None, _) => format!("Sends nothing before an answer comes: {message}."),
        }
    }
}

impl Next {
    fn of(upcoming: &Upcoming, moment: impl Fn(Instant) -> Moment) -> Self {
        let (what, tasks) = match upcoming.what {
            What::NewTask => ("NewTask", None),
            What::Task => ("Task", None),
            What::List { tasks, is_discovered: false } => ("List", Some(tasks)),
            What::List { tasks, is_discovered: true } => ("DiscoveryList", Some(tasks)),
            What::Subtasks => ("Subtasks", None),
            What::Page => ("Page", None),
        };
        // What several share is nobody's alone.
        let tenant = Some(upcoming.tenant.as_str()).filter(|name| !name.starts_with('/'));
        Self {
            what,
            tasks,
            due: upcoming.due.map(moment),
            tenant: tenant.map(str::to_owned),
            watched_by: upcoming.watchers.iter().map(ToString::to_string).collect(),
        }
    }

    fn says(&self) -> String {
        let what = match self.what {
            "NewTask" => "a new task",
            "Task" => "a task",
            "List" | "DiscoveryList" => "the list of a scope",
            "Subtasks" => "the sub-tasks of a task",
            _ => "a further page of a list",
        };
        let tenant = self.tenant.as_ref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        let due = match &self.due {
            None => "as soon as may be".to_owned(),
            Some(due) if due.in_seconds > 0.0 => format!("due in {}", due.ahead()),
            Some(due) => format!("due for {}", due.ago()),
        };
        let tasks = self.tasks.filter(|tasks| *tasks > 0).map(|tasks| counted(tasks, "task"));
        let discovery = Some("discovery".to_owned()).filter(|_| self.what == "DiscoveryList");
        let whom: Vec<_> = self.watched_by.iter().cloned().chain(tasks).chain(discovery).collect();
        let whom = if whom.is_empty() { String::new() } else { format!(", for {}", whom.join(" and ")) };
        format!("{what}{tenant} ({due}{whom})")
    }
}

impl Moment {
    fn of(at: Instant, now: Instant, wall: Timestamp) -> Self {
        let ahead = at.saturating_duration_since(now);
        let time = if ahead.is_zero() { to_wall(at, now, wall) } else { wall.checked_add(ahead).unwrap_or(wall) };
        let in_seconds = ahead.as_secs_f64() - now.saturating_duration_since(at).as_secs_f64();
        Self { time: time.round(Unit::Millisecond).unwrap_or(time), in_seconds: (in_seconds * 1000.0).round() / 1000.0 }
    }

    fn ahead(self) -> String {
        span(self.in_seconds)
    }

    fn ago(self) -> String {
        span(-self.in_seconds)
    }
}

/// So many seconds, as people say it.
fn span(seconds: f64) -> String {
    match seconds.abs() {
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The first ones, and how many more there are.
fn enumerated(first: impl Iterator<Item = String>, count: usize) -> String {
    const NAMED: usize = 5;
    let mut named: Vec<_> = first.take(NAMED).collect();
    if count > named.len() {
        named.push(format!("{} more", count - named.len()));
    }
    named.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_as_people_say_it() {
        for (seconds, said) in [
            (0.0, "0.0 s"),
            (-99.9, "99.9 s"),
            (100.0, "2 min"),
            (600.0, "10 min"),
            (5999.0, "100 min"),
            (6000.0, "2 h"),
            (36_000.0, "10 h"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}
