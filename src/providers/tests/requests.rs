use super::{names, provider};
use crate::{
    domain::task::TaskRef,
    providers::{Cursor, LIST_BODY_LIMIT, SINGLE_BODY_LIMIT},
};

#[test]
fn paths_and_queries() {
    let task = TaskRef { scope: "s/1".to_owned(), id: "t:1".to_owned() };
    let expected = [
        ("huaweiCloud", "/v1/s%2F1/jobs/t%3A1", None),
        ("cloudRu", "/openshift/v1/s%2F1/tasks/t%3A1", Some("/openshift/v1/s%2F1/tasks")),
        ("astraControl", "/accounts/s%2F1/core/v1/tasks/t%3A1", Some("/accounts/s%2F1/core/v1/tasks")),
    ];
    assert!(names().eq(expected.iter().map(|(name, ..)| *name)), "one line for each provider");
    for (name, single, list) in expected {
        let provider = provider(name);
        assert_eq!(provider.name(), name);
        let request = provider.task_request(&task);
        assert_eq!((request.path.as_str(), request.body_limit), (single, SINGLE_BODY_LIMIT));
        let request = provider.list_request("s/1", None);
        assert_eq!(request.as_ref().map(|request| request.path.as_str()), list);
        assert!(request.is_none_or(|request| request.body_limit == LIST_BODY_LIMIT));
    }
}

#[test]
fn astra_asks_for_fields_children_and_pages() {
    let provider = provider("astraControl");
    let keys = |query: &[(String, String)]| query.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let list = provider.list_request("a", Some(&Cursor("next".to_owned()))).unwrap();
    assert_eq!(keys(&list.query), ["include", "continue"]);
    assert!(list.query[0].1.starts_with("id,parentTaskID,state,"));

    let task = TaskRef { scope: "a".to_owned(), id: "t1".to_owned() };
    let children = provider.subtasks_request(&task).unwrap();
    assert_eq!(children.query[1], ("filter".to_owned(), "parentTaskID eq 't1'".to_owned()));
    assert!(provider.subtasks_request(&TaskRef { id: "t' or 'x".to_owned(), ..task }).is_none());
}
