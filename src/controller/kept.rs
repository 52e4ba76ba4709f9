//! A status as the index keeps it: packed, since the statuses of all watches are most of what the operator has in memory. What
//! does not fit into the share of its namespace is let go of: a digest is left, and the API server has the rest.

use std::hash::{DefaultHasher, Hash, Hasher};

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

use crate::{api::TaskWatchStatus, tenancy::pool::Lease};

/// What nearly every status has in it, most frequent last: what stands here costs next to nothing in each.
const COMMON: &[u8] = br#""stateDetails":[{"type":"","title":"","detail":""}],"error":{"code":"","reason":"","message":"","httpStatus":,"details":[{"type":"","value":""}]},"notFoundSince":"2026-01-01T00:00:00Z","subtasks":{"total":,"pending":,"running":,"succeeded":,"failed":,"cancelled":,"items":[{"id":"","name":"","state":"Succeeded","upstreamState":"SUCCESS","percent":100}]},"type":"Stalled","reason":"TaskFailed","state":"Failed","upstreamState":"failed","message":"The task has failed; the upstream does not say why.","outputs":{"volume_id":"","resourceURI":"/accounts/","resourceID":""},"lastHandledReconcileAt":"","reason":"TaskSucceeded","message":"The task has succeeded.","state":"Succeeded","progress":{"percent":100,"display":"100%","source":"Derived"},"completionTime":"2026-01-01T00:00:00Z","reason":"TaskPending","message":"The task waits to be started upstream.","observedGeneration":1,"state":"Running","task":{"id":"","scope":"","name":"","displayName":"","type":"","upstreamState":"running","parentID":"","resource":"/accounts/","createdBy":"","createdTime":"2026-01-01T00:00:00Z","modifiedTime":"2026-01-01T00:00:00Z"},"progress":{"percent":,"display":"%","source":"Reported"},"startTime":"2026-01-01T00:00:00Z","lastObservedTime":"2026-01-01T00:00:00Z","conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"False","type":"Finished"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"True","type":"Reconciling"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The task is running upstream.","observedGeneration":1,"reason":"TaskRunning","status":"Unknown","type":"Succeeded"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The status shows what the upstream says.","observedGeneration":1,"reason":"Observed","status":"True","type":"Synced"}]}"#;

/// A packed status; equal ones are of equal statuses.
#[derive(Clone, Debug)]
pub struct Kept {
    digest: u64,
    /// None where it was let go of.
    packed: Option<Box<[u8]>>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Kept {}

impl Kept {
    /// Packs a status; none for one that cannot be written as JSON, which no status of the schema is.
    #[must_use]
    pub fn pack(status: &TaskWatchStatus) -> Option<Self> {
        let json = serde_json::to_vec(status).ok()?;
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        let packed = compress_prepend_size_with_dict(&json, COMMON).into_boxed_slice();
        Some(Self { digest: hasher.finish(), packed: Some(packed) })
    }

    /// The status; none where only the digest is left.
    #[must_use]
    pub fn unpack(&self) -> Option<TaskWatchStatus> {
        let json = decompress_size_prepended_with_dict(self.packed.as_deref()?, COMMON).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Whether only the digest is left.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.packed.is_none()
    }

    /// What is enough to know it again.
    #[must_use]
    pub fn digest(&self) -> Self {
        Self { digest: self.digest, packed: None }
    }

    /// As much of it as there is room for in `room`, which held the one before.
    #[must_use]
    pub fn within(self, room: &mut Lease) -> Self {
        room.shrink_to(0);
        let size = self.packed.as_ref().map_or(0, |packed| packed.len());
        if size == 0 || room.try_grow(size) { self } else { self.digest() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::tenancy::{Tenant, pool::Pool};

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
        let size = kept.packed.unwrap().len();
        assert!(size * 3 < plain, "{size} of {plain} bytes");
    }

    #[test]
    fn what_is_broken_is_no_status() {
        for packed in [Some(Box::from(*b"\x10\0\0\0broken")), Some(Box::default()), None] {
            assert_eq!(Kept { digest: 0, packed }.unpack(), None);
        }
    }

    #[test]
    fn what_has_no_room_is_known_again_by_its_digest() {
        let pool = Pool::new(300, 0);
        let [mut first, mut second] = ["a", "b"].map(|name| pool.lease(&Tenant::namespace(&Arc::from(name))));
        let status = |state: &str| TaskWatchStatus { state: Some(state.to_owned()), ..TaskWatchStatus::default() };
        // What cannot be packed any smaller.
        let large: String = (0..400_u32).filter_map(|n| char::from_u32(0x4e00 + n * 37 % 20_000)).collect();
        let kept = Kept::pack(&status(&large)).unwrap().within(&mut first);
        assert!(kept.is_let_go() && kept == Kept::pack(&status(&large)).unwrap());
        assert_eq!((kept.unpack(), first.held()), (None, 0));
        let small = Kept::pack(&status("Running")).unwrap().within(&mut second);
        assert_eq!(small.unpack(), Some(status("Running")), "another namespace has its own share");
        assert_ne!(small, kept);
        let held = second.held();
        assert!(held > 0 && small.within(&mut second).unpack().is_some() && second.held() == held);
    }
}
