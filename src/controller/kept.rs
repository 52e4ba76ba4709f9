//! A status as the index keeps it: packed, since the statuses of all watches are most of what the operator has in memory.

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

use crate::api::TaskWatchStatus;

/// What nearly every status has in it, most frequent last: what stands here costs next to nothing in each.
const COMMON: &[u8] = br#""stateDetails":[{"type":"","title":"","detail":""}],"error":{"code":"","reason":"","message":"","httpStatus":,"details":[{"type":"","value":""}]},"notFoundSince":"2026-01-01T00:00:00Z","subtasks":{"total":,"pending":,"running":,"succeeded":,"failed":,"cancelled":,"items":[{"id":"","name":"","state":"Succeeded","upstreamState":"SUCCESS","percent":100}]},"type":"Stalled","reason":"TaskFailed","state":"Failed","upstreamState":"failed","message":"The task has failed; the upstream does not say why.","outputs":{"volume_id":"","resourceURI":"/accounts/","resourceID":""},"lastHandledReconcileAt":"","reason":"TaskSucceeded","message":"The task has succeeded.","state":"Succeeded","progress":{"percent":100,"display":"100%","source":"Derived"},"completionTime":"2026-01-01T00:00:00Z","reason":"TaskPending","message":"The task waits to be started upstream.","observedGeneration":1,"state":"Running","task":{"id":"","scope":"","name":"","displayName":"","type":"","upstreamState":"running","parentID":"","resource":"/accounts/","createdBy":"","createdTime":"2026-01-01T00:00:00Z","modifiedTime":"2026-01-01T00:00:00Z"},"progress":{"percent":,"display":"%","source":"Reported"},"startTime":"2026-01-01T00:00:00Z","lastObservedTime":"2026-01-01T00:00:00Z","conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"False","type":"Finished"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"True","type":"Reconciling"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"Unknown","type":"Succeeded"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The status shows what the upstream says.","observedGeneration":1,"reason":"Observed","status":"True","type":"Synced"}]}"#;

/// A packed status; equal ones are of equal statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Box<[u8]>);

impl Kept {
    /// Packs a status; none for one that cannot be written as JSON, which no status of the schema is.
    #[must_use]
    pub fn pack(status: &TaskWatchStatus) -> Option<Self> {
        let json = serde_json::to_vec(status).ok()?;
        Some(Self(compress_prepend_size_with_dict(&json, COMMON).into_boxed_slice()))
    }

    /// The status.
    #[must_use]
    pub fn unpack(&self) -> Option<TaskWatchStatus> {
        let json = decompress_size_prepended_with_dict(&self.0, COMMON).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_lost_and_little_room_is_taken() {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
                "lastTransitionTime": "2026-11-22T10:12:25Z"})
        };
        let running = "The task is running upstream.";
        let status: TaskWatchStatus = serde_json::from_value(json!({
            "observedGeneration": 1, "state": "Running",
            "task": {"id": "c7a2f8d0-1b3e-4c5d-8e9f-0a1b2c3d4e01", "scope": "9b1c7a34-3c2d-4f53-8e61-2d7a5b9c0e42",
                "name": "astra.backup", "displayName": "Backup", "upstreamState": "running",
                "resource": "/accounts/9b1c7a34-3c2d-4f53-8e61-2d7a5b9c0e42/k8s/v1/apps/7c8bef49-697e-4fb4-810c-675cef4cf6c9"},
            "progress": {"percent": 20, "display": "20%", "source": "Reported"},
            "startTime": "2026-11-22T10:12:25Z", "lastObservedTime": "2026-11-22T10:12:35Z",
            "conditions": [
                condition("Finished", "False", "TaskRunning", running), condition("Ready", "Unknown", "TaskRunning", running),
                condition("Reconciling", "True", "TaskRunning", running), condition("Succeeded", "Unknown", "TaskRunning", running),
                condition("Synced", "True", "Observed", "The status shows what the upstream says."),
            ],
        }))
        .unwrap();
        let kept = Kept::pack(&status).unwrap();
        let plain = serde_json::to_vec(&status).unwrap().len();
        assert_eq!(kept.unpack().as_ref(), Some(&status));
        assert!(kept.0.len() * 3 < plain, "{} of {plain} bytes", kept.0.len());
    }

    #[test]
    fn what_is_broken_is_no_status() {
        assert_eq!(Kept(Box::from(*b"\x10\0\0\0broken")).unpack(), None);
        assert_eq!(Kept(Box::default()).unpack(), None);
    }
}
