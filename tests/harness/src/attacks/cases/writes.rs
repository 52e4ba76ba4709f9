//! F11: what is written into the API server on somebody's behalf.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::case::{Attack, Place, Scene};
use super::super::ground::ATTACKER;
use super::super::objects::{connection, token, watch, with};
use super::super::upstream::{Provider, Reply, Request, State, task};

/// The most that a status may have, as the API server stores it.
const STATUS: usize = 32 << 10;
/// How long writes are counted, and how many there may be for one object in that time while its task flaps.
const COUNTED: Duration = Duration::from_secs(10);
const WRITES: usize = 4;
/// The most events for one object within the first minute.
const EVENTS: u64 = 12;

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new("F11", "large-statuses", "300 tasks whose every text is full of <>&\", another each second")
            .seconds(8)
            .plain(large)
            .objects(|place| fleet(place, 300))
            .judge(|scene| Box::pin(weighed(scene))),
        Attack::new("F11", "flapping", "300 tasks that are pending, running, pending … each second")
            .seconds(5)
            .plain(|request| Reply::json(200, &task(request, turn(request))))
            .objects(|place| fleet(place, 300))
            .judge(|scene| Box::pin(counted(scene))),
    ]
}

fn turn(request: &Request) -> State {
    if request.seen.is_multiple_of(2) { State::Running } else { State::Pending }
}

fn fleet(place: &Place, count: usize) -> Vec<serde_json::Value> {
    let name = place.nth(0);
    let more = json!({"rateLimit": {"requestsPerSecond": 1000, "burst": 1000, "maxInFlight": 256}});
    let modest = json!({"rateLimit": {"requestsPerSecond": 50, "burst": 50, "maxInFlight": 32}});
    let mut all = vec![token(ATTACKER[0]), connection(ATTACKER[0], &name, Provider::Huawei, place.url(), more)];
    // Should the first be refused.
    let second = place.nth(1);
    all.push(connection(ATTACKER[0], &second, Provider::Huawei, place.url(), modest));
    all.extend((0..count).map(|n| {
        let connection = if n % 6 == 0 { &second } else { &name };
        watch(ATTACKER[0], &place.nth(n), connection, &format!("job{n}"), json!({}))
    }));
    all
}

/// Forty sub-tasks and outputs; every text as long as it is read, of characters that Go writes as six.
fn large(request: &Request) -> Reply {
    let text = |length: usize| format!("{}{}", "<>&\"\u{2028}".repeat(length / 5), request.seen);
    let sub = |n: usize| {
        json!({"job_id": format!("s{n}{}", text(250)), "job_type": text(250), "status": "FAIL", "error_code": text(250),
            "fail_reason": text(500), "entities": {"server_id": text(200)}})
    };
    let mut entities = serde_json::Map::new();
    entities.extend((0..40).map(|n| (format!("thing{n}_id"), json!(text(500)))));
    entities.insert("sub_jobs".to_owned(), json!((0..40).map(sub).collect::<Vec<_>>()));
    let over = json!({"job_type": text(250), "fail_reason": text(1000), "entities": entities});
    Reply::json(200, &with(task(request, turn(request)), over))
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// How large the statuses are, as the API server has them.
async fn weighed(scene: &Scene<'_>) -> Result<Vec<String>> {
    let path = format!("/apis/taskwatch.dev/v1alpha1/namespaces/{}/taskwatches", ATTACKER[0]);
    let text = scene.ground.text(&path).await?;
    let list: List<'_> = serde_json::from_str(&text)?;
    let sizes: Vec<_> = list.items.iter().filter_map(|item| item.status).map(|status| status.get().len()).collect();
    let most = sizes.iter().max().copied().unwrap_or_default();
    let mut faults = counted(scene).await?;
    if most > STATUS {
        faults.push(format!("a status of {most} bytes, at most {STATUS} may be"));
    }
    if most < 2000 {
        faults.push(format!("the largest status has {most} bytes: the tasks are not shown"));
    }
    Ok(faults)
}

/// How often each object is written, and how many events there are of it.
async fn counted(scene: &Scene<'_>) -> Result<Vec<String>> {
    let kind = GroupVersionKind::gvk("taskwatch.dev", "v1alpha1", "TaskWatch");
    let resource = ApiResource::from_gvk_with_plural(&kind, "taskwatches");
    let api: Api<DynamicObject> = Api::namespaced_with(scene.ground.admin(), ATTACKER[0], &resource);
    let list = api.list_metadata(&kube::api::ListParams::default().limit(1)).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut writes: HashMap<String, usize> = HashMap::new();
    let watch = async {
        let stream = api.watch_metadata(&WatchParams::default().timeout(60), &version).await?;
        pin_mut!(stream);
        while let Some(event) = stream.next().await {
            if let WatchEvent::Modified(object) = event? {
                *writes.entry(object.metadata.name.unwrap_or_default()).or_default() += 1;
            }
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(COUNTED, watch).await {
        ended?;
    }
    let mut faults = Vec::new();
    let most = writes.iter().filter(|(name, _)| name.starts_with(scene.place.name)).max_by_key(|(_, count)| **count);
    if let Some((name, &count)) = most.filter(|(_, count)| **count > WRITES) {
        faults.push(format!("{name} was written {count} times in {COUNTED:?}, at most {WRITES} may be"));
    }
    let mut told: HashMap<String, u64> = HashMap::new();
    for event in scene.ground.events(ATTACKER[0], scene.place.name).await? {
        let times = event["series"]["count"].as_u64().unwrap_or(1);
        *told.entry(event["regarding"]["name"].to_string()).or_default() += times;
    }
    if let Some((name, count)) = told.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > EVENTS) {
        faults.push(format!("{count} events of {name} within a minute, at most {EVENTS} may be"));
    }
    Ok(faults)
}
