//! What the request log, the events and the operator's own log must show, after the run.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    book::{Book, Mark},
    history::{History, unclean},
    model::{Connection, TIMEOUT_SECONDS},
    upstream::{Asked, text},
};

/// So long after an answer, requests that were sent before it was read may still arrive.
const ON_THE_WAY_MS: i64 = 1500;
/// Arrivals are noted by a simulator that shares two cores with everything else: what it noted within this time is one moment.
const GRAIN_SECONDS: f64 = 0.5;

/// From and to, in milliseconds.
type Span = (i64, i64);

/// Budgets, silence after `Retry-After`, in flight, locked keys.
pub(super) fn requests(log: &[Asked], connections: &[Connection], book: &Book) -> String {
    let mut peaks = Vec::new();
    let away = book.marks(&[Mark::OperatorAway, Mark::UpstreamAway]);
    let frozen = book.marks(&[Mark::OperatorAway, Mark::UpstreamAway, Mark::OperatorFrozen]);
    let turned = book.marks(&[Mark::Rotated]);
    for (index, connection) in connections.iter().enumerate() {
        let network = book.marks(&[Mark::Network(index)]);
        let mut own: Vec<_> = log.iter().filter(|asked| is_of(asked, connection)).collect();
        own.sort_by_key(|asked| asked.at_ms);
        let peak = budget(&own, connection, &away, book);
        peaks.push(format!("{} {} requests, peak {peak:.1} of {}", connection.name, own.len(), connection.burst));
        silence(&own, connection, (&frozen, &network), book);
        in_flight(&own, connection, (&away, &turned, &network), book);
        if let Some(locked) = own.iter().find(|asked| asked.auth == "locked") {
            book.finding("key locked", format!("{}: {locked:?}", connection.name));
        }
    }
    peaks.join("; ")
}

fn is_of(asked: &Asked, connection: &Connection) -> bool {
    match &asked.scope {
        Some(scope) => *scope == connection.scope,
        None => connection.token_route() == Some(asked.path.as_str()),
    }
}

/// Whether a span lies over this time, give or take.
fn over(spans: &[Span], at: i64, before: i64, after: i64) -> bool {
    spans.iter().any(|(from, to)| at >= from - before && at <= to + after)
}

/// In any window: at most the burst and what the rate grants. A restart begins anew; so does, for the one who looks, a pause of the
/// simulator, which then reads at once what was sent in a while.
fn budget(own: &[&Asked], connection: &Connection, away: &[Span], book: &Book) -> f64 {
    let rate = f64::from(connection.per_second);
    let limit = f64::from(connection.burst) + (rate * GRAIN_SECONDS).max(f64::from(connection.in_flight) / 2.0) + 1.0;
    let (mut level, mut last, mut peak) = (0.0_f64, 0_i64, 0.0_f64);
    let mut told = false;
    for asked in own {
        if over(away, asked.at_ms, 0, 1000) {
            (level, last, told) = (0.0, asked.at_ms, false);
            continue;
        }
        if away.iter().any(|(from, to)| last < *to && *from <= asked.at_ms) {
            (level, told) = (0.0, false);
        }
        let since = f64::from(i32::try_from(asked.at_ms - last).unwrap_or(i32::MAX)) / 1000.0;
        level = (level - since * rate).max(0.0) + 1.0;
        last = asked.at_ms;
        peak = peak.max(level);
        if level > limit && !told {
            told = true;
            let rate = connection.per_second;
            let what = format!(
                "{}: {level:.1} requests ahead of {rate}/s, burst {}, at {}: {asked:?}",
                connection.name, connection.burst, asked.at_ms
            );
            book.finding("budget", what);
        }
    }
    peak
}

/// Nothing is sent before the time that was asked for.
fn silence(own: &[&Asked], connection: &Connection, (frozen, network): (&[Span], &[Span]), book: &Book) {
    for (at, limited) in own.iter().enumerate() {
        let Some(wait) = limited.retry_after.then(|| wait_of(limited)).flatten() else { continue };
        let (from, to) = (limited.at_ms + ON_THE_WAY_MS, limited.at_ms + wait - 50);
        // A delay may have lain over the answer; a new process knows nothing of what the last one was told.
        if limited.met("delay") || frozen.iter().any(|(begin, end)| *begin <= to && end + 1000 >= limited.at_ms) {
            continue;
        }
        // The network may have lost the answer, or let it arrive late.
        if over(network, limited.at_ms, i64::from(TIMEOUT_SECONDS) * 1000, 500) {
            continue;
        }
        if let Some(early) = own[at..].iter().find(|asked| asked.at_ms > from && asked.at_ms < to) {
            let after = early.at_ms - limited.at_ms;
            book.finding("Retry-After", format!("{}: {after} ms after {limited:?} came {early:?}", connection.name));
        }
    }
}

/// What the fault says in its name. A date is in whole seconds.
fn wait_of(asked: &Asked) -> Option<i64> {
    let fault = asked.faults.iter().find(|fault| fault.starts_with("limit"))?;
    let seconds: i64 = fault.rsplit('-').next()?.parse().ok()?;
    match fault.split('-').next()? {
        "limitseconds" => Some(seconds * 1000),
        "limitdate" => Some(seconds * 1000 - 1000),
        _ => None,
    }
}

fn in_flight(
    own: &[&Asked],
    connection: &Connection,
    (away, turned, network): (&[Span], &[Span], &[Span]),
    book: &Book,
) {
    // One whose client has given up is noticed a moment later.
    let slow: Vec<_> = own
        .iter()
        .filter(|a| a.met("hang") || a.met("delay") || a.met("huge") || a.met("bomb"))
        .map(|a| a.at_ms)
        .collect();
    let time_out = i64::from(TIMEOUT_SECONDS) * 1000 + 1000;
    for asked in own {
        let near = over(away, asked.at_ms, 0, 2 * time_out) || over(turned, asked.at_ms, 0, 4000);
        let near = near || over(network, asked.at_ms, 0, 2 * time_out);
        let waits = slow.iter().any(|at| *at <= asked.at_ms && asked.at_ms <= at + 2 * time_out);
        let limit = u64::from(connection.in_flight) + if near || waits { u64::from(connection.in_flight) } else { 0 };
        if asked.in_flight > limit {
            book.finding("in flight", format!("{}: {} of {limit}: {asked:?}", connection.name, asked.in_flight));
            return;
        }
    }
}

/// No transition is told twice.
pub(super) fn events(events: &[Value], history: &History, book: &Book) -> usize {
    let mut told: HashMap<(String, String), (u64, String)> = HashMap::new();
    for event in events.iter().filter(|event| event["reportingController"] == "taskwatch") {
        let times = event["series"]["count"].as_u64().unwrap_or(1);
        let key = (text(&event["regarding"]["uid"]), text(&event["reason"]));
        let entry = told.entry(key).or_insert((0, text(&event["regarding"]["name"])));
        entry.0 += times;
        if let Some(bad) = event["note"].as_str().and_then(|note| unclean(&note.into())) {
            book.finding("unclean event", bad);
        }
    }
    for ((uid, reason), (times, name)) in &told {
        let Some(seen) = history.of(uid) else { continue };
        let once = reason == "TaskObserved";
        let missed = if once { 0 } else { seen.missed(reason) };
        let may = seen.reasons.get(reason).copied().unwrap_or_default().max(u64::from(once)) + missed;
        if *times > may {
            let all = &seen.reasons;
            book.finding(
                "event twice",
                format!("{name} {uid}: {reason} was told {times} times, it was so {may} times; {all:?}"),
            );
        }
    }
    events.len()
}

/// No panic, no write that is refused, no secret, nothing that harms a terminal.
pub(super) fn logs(logs: &[String], secrets: &[String], book: &Book) -> usize {
    let mut lines = 0;
    for line in logs.iter().flat_map(|log| log.lines()) {
        lines += 1;
        let lower = line.to_ascii_lowercase();
        if lower.contains("panicked") || lower.contains("stack backtrace") {
            book.finding("panic", line.to_owned());
        }
        // An object that is gone is no error, and a status that the schema refuses never arrives.
        if line.contains("trying again") && line.contains("Invalid") {
            book.finding("refused write", line.to_owned());
        }
        if let Some(secret) = secrets.iter().find(|secret| line.contains(secret.as_str())) {
            book.finding("secret told", format!("{secret} in {line}"));
        }
        if let Some(bad) = unclean(&line.into()) {
            book.finding("unclean log", bad);
        }
    }
    lines
}
