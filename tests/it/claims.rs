//! SECURITY.md names a test for each claim; those tests are there.

use std::{collections::BTreeSet, fs};

use taskwatch_harness::workspace_root;

/// What stands in backticks as `path/of/file.rs::name_of_test`.
fn named(text: &str) -> BTreeSet<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|quote| quote.split_once(".rs::")).collect()
}

#[test]
fn each_test_that_security_md_names_is_there() {
    let root = workspace_root();
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let claims = named(&text);
    assert!(claims.len() > 20, "{claims:?}");
    let missing = claims.iter().filter(|(file, test)| {
        let source = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        let (_, after) = source.split_once(&format!("fn {test}(")).unwrap_or_default();
        after.is_empty()
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:#?}");
}

#[test]
fn names_are_found_in_backticks_only() {
    let found = named("a `src/a.rs::one`, b `src/b.rs` and `tests/it/c.rs::two` but not src/d.rs::three");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("src/a", "one"), ("tests/it/c", "two")]);
}
