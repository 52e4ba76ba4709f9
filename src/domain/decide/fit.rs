//! A status is no larger than etcd can bear thousands of.

use std::collections::BTreeMap;

use crate::{
    api::TaskWatchStatus,
    domain::{stored, text::clean},
};

/// Largest status, in bytes as the API server stores it.
pub(super) const STATUS_BYTES: usize = 32 << 10;

/// The lengths that long texts are cut to, one after another, until the status fits.
const CUTS: &[usize] = &[512, 256, 128, 64];

/// `status`, in at most [`STATUS_BYTES`]: the sub-tasks are left out first, then long texts are cut shorter and shorter, then outputs,
/// explanations and details are left out. The same status gives the same, and what fits stays as it is, so that a restart writes nothing.
pub(super) fn fit(mut status: TaskWatchStatus) -> TaskWatchStatus {
    let fits = |status: &TaskWatchStatus| stored::size(status) <= STATUS_BYTES;
    if fits(&status) {
        return status;
    }
    if let Some(subtasks) = &mut status.subtasks {
        subtasks.items.clear();
    }
    for cut in CUTS {
        if fits(&status) {
            return status;
        }
        shorten(&mut status, *cut);
    }
    if !fits(&status) {
        status.outputs.clear();
        status.state_details.clear();
        if let Some(error) = &mut status.error {
            error.details.clear();
        }
    }
    status
}

/// Cuts every text that an upstream may have made long.
fn shorten(status: &mut TaskWatchStatus, max: usize) {
    let cut = |text: &mut String| {
        if text.len() > max {
            *text = clean(text, max);
        }
    };
    if let Some(task) = &mut status.task {
        let words = [
            &mut task.name,
            &mut task.display_name,
            &mut task.kind,
            &mut task.upstream_state,
            &mut task.parent_id,
            &mut task.resource,
            &mut task.created_by,
        ];
        words.into_iter().flatten().for_each(cut);
    }
    if let Some(error) = &mut status.error {
        let words = [&mut error.code, &mut error.reason, &mut error.message, &mut error.correlation_id];
        words.into_iter().flatten().for_each(cut);
        error.details.iter_mut().flat_map(|detail| [&mut detail.kind, &mut detail.value]).flatten().for_each(cut);
    }
    let details = status.state_details.iter_mut();
    details.flat_map(|detail| [&mut detail.kind, &mut detail.title, &mut detail.detail]).flatten().for_each(cut);
    let outputs: BTreeMap<_, _> = std::mem::take(&mut status.outputs)
        .into_iter()
        .filter(|(name, _)| name.len() <= max.max(256))
        .map(|(name, mut value)| {
            cut(&mut value);
            (name, value)
        })
        .collect();
    status.outputs = outputs;
    status.conditions.iter_mut().map(|condition| &mut condition.message).for_each(cut);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::{STATUS_BYTES, fit};
    use crate::{
        api::{
            ErrorDetailStatus, ErrorStatus, StateDetailStatus, SubtaskStatus, SubtasksStatus, TaskStatus,
            TaskWatchStatus,
        },
        domain::stored,
    };

    /// A status whose texts are so many times a character that takes six bytes where it is stored.
    fn status(texts: usize, items: usize) -> TaskWatchStatus {
        let text = |most: usize| "<".repeat(texts.min(most));
        let some = |most| Some(text(most));
        let condition = |kind: &str| Condition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: "TaskFailed".to_owned(),
            message: text(2048),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        };
        let item = SubtaskStatus { id: some(64), name: some(64), error_message: some(64), ..SubtaskStatus::default() };
        TaskWatchStatus {
            task: Some(TaskStatus {
                id: some(1024),
                scope: some(1024),
                name: some(256),
                resource: some(512),
                ..TaskStatus::default()
            }),
            subtasks: Some(SubtasksStatus { total: Some(40), items: vec![item; items], ..SubtasksStatus::default() }),
            error: Some(ErrorStatus { message: some(1024), ..ErrorStatus::default() }),
            outputs: (0..32).map(|n| (format!("{n}{}", text(200)), text(512))).collect(),
            state_details: vec![StateDetailStatus { detail: some(1024), ..StateDetailStatus::default() }; 8],
            last_handled_reconcile_at: some(256),
            conditions: ["Finished", "Ready", "Stalled", "Succeeded", "Synced"].map(condition).to_vec(),
            ..TaskWatchStatus::default()
        }
    }

    #[test]
    fn the_largest_status_fits_and_stays() {
        for texts in [0, 1, 20, 30, 40, 64, 100, 200, 500, 5000] {
            for items in [0, 1, 32] {
                let fitted = fit(status(texts, items));
                let size = stored::size(&fitted);
                assert!(size <= STATUS_BYTES, "{texts} {items}: {size}");
                assert_eq!(fit(fitted.clone()), fitted, "the same is written again");
                assert_eq!(fitted.subtasks.as_ref().unwrap().total, Some(40), "counts stay");
                assert_eq!(fitted.conditions.len(), 5);
            }
        }
    }

    #[test]
    fn texts_are_cut_before_anything_is_left_out() {
        let outputs = (0..20).map(|n| (format!("o{n}"), "x".repeat(2000))).collect();
        let fitted = fit(TaskWatchStatus { outputs, ..status(1, 0) });
        assert!(stored::size(&fitted) <= STATUS_BYTES);
        assert_eq!((fitted.outputs.len(), fitted.state_details.len()), (20, 8));
        assert!(fitted.outputs.values().all(|value| (1..2000).contains(&value.len())));
    }

    #[test]
    fn what_no_cut_makes_small_enough_is_left_out() {
        let details = vec![StateDetailStatus { detail: Some("x".to_owned()), ..StateDetailStatus::default() }; 4096];
        let fitted = fit(TaskWatchStatus { state_details: details, ..status(1, 1) });
        assert!(stored::size(&fitted) <= STATUS_BYTES && fitted.state_details.is_empty());
        assert_eq!(fitted.conditions.len(), 5);
        let outputs = (0..6000).map(|n| (format!("output-number-{n}"), "x".to_owned())).collect();
        let fitted = fit(TaskWatchStatus { outputs, ..status(1, 1) });
        assert!(stored::size(&fitted) <= STATUS_BYTES && fitted.outputs.is_empty());
        let detail = ErrorDetailStatus { value: Some("x".to_owned()), ..ErrorDetailStatus::default() };
        let error = ErrorStatus { details: vec![detail; 8192], ..ErrorStatus::default() };
        let fitted = fit(TaskWatchStatus { error: Some(error), ..status(1, 1) });
        assert!(stored::size(&fitted) <= STATUS_BYTES && fitted.error.unwrap().details.is_empty());
    }

    #[test]
    fn what_fits_is_untouched_and_items_go_first() {
        let small = status(5, 32);
        assert!(stored::size(&small) < STATUS_BYTES);
        assert_eq!(fit(small.clone()), small);
        let only_items = TaskWatchStatus { outputs: [].into(), state_details: Vec::new(), ..status(64, 32) };
        assert!(stored::size(&only_items) > STATUS_BYTES);
        let mut expected = only_items.clone();
        expected.subtasks.as_mut().unwrap().items.clear();
        assert_eq!(fit(only_items), expected);
    }
}
