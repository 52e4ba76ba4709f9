//! What `/debug/connections` tells: of each connection what it does next and why it waits, or why it does nothing at all.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::Controller;
use crate::{
    engine::{ConnectionAgenda, ConnectionId},
    ops::debug::Question,
};

/// Most connections that one answer tells of.
const MOST: usize = 100;
/// How long the connections may take to answer. They answer at their next turn.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    time: Timestamp,
    connections: Vec<ConnectionAgenda>,
    /// So many more were asked for than are told of.
    left_out: usize,
}

/// The page, as text or as JSON.
pub(super) async fn page(controller: Arc<Controller>, question: Question) -> String {
    let (ids, left_out) = asked_for(&controller, &question);
    let deadline = Instant::now() + PATIENCE;
    let connections = join_all(ids.iter().map(|id| agenda(&controller, id, deadline))).await;
    let time = controller.clock.now();
    if question.json {
        let answer = Answer { time, connections, left_out };
        return serde_json::to_string_pretty(&answer).unwrap_or_default() + "\n";
    }
    let mut texts: Vec<_> = connections.iter().map(ToString::to_string).collect();
    if connections.is_empty() {
        texts.push("There is no such connection, or none that this operator follows.\n".to_owned());
    }
    if left_out > 0 {
        texts.push(format!("{left_out} more are left out: give namespace= and name=.\n"));
    }
    texts.join("\n")
}

/// The connections that are asked for, by name, and how many of them are left out.
fn asked_for(controller: &Controller, question: &Question) -> (Vec<ConnectionId>, usize) {
    let is_asked_for = |id: &&ConnectionId| {
        question.namespace.as_deref().is_none_or(|namespace| id.namespace.as_deref() == Some(namespace))
            && question.name.as_deref().is_none_or(|name| *id.name == *name)
    };
    let mut ids: Vec<_> = controller.shared.index().connections.keys().filter(is_asked_for).cloned().collect();
    ids.sort();
    let left_out = ids.len().saturating_sub(MOST);
    ids.truncate(MOST);
    (ids, left_out)
}

async fn agenda(controller: &Controller, id: &ConnectionId, deadline: Instant) -> ConnectionAgenda {
    let why = match (unavailable(controller, id), controller.engine.agenda(id)) {
        (Some(why), _) => why,
        (None, None) => "Asks nothing yet: it is being opened.".to_owned(),
        (None, Some(answer)) => match timeout_at(deadline, answer).await {
            Ok(Ok(agenda)) => return agenda,
            Ok(Err(_)) => "Does not say: it was closed, or too many ask.".to_owned(),
            Err(_) => "Does not say: it did not answer in time.".to_owned(),
        },
    };
    ConnectionAgenda::closed(id, why, controller.clock.now())
}

/// Why nothing is asked by it, if that is so. The engine keeps it open for a while.
fn unavailable(controller: &Controller, id: &ConnectionId) -> Option<String> {
    if controller.owned(id).is_none() {
        let bucket = controller.bucket(id).number();
        return Some(format!("Asks nothing: this replica does not hold the Lease of bucket {bucket}."));
    }
    let index = controller.shared.index();
    let unavailable = index.connections.get(id)?.availability.as_ref()?.as_ref().err()?;
    Some(format!("Asks nothing: {}. Its condition Ready says what to do.", unavailable.reason.as_str()))
}
