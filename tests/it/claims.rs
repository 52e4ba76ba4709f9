//! SECURITY.md names a test for each claim; those tests are there.

use std::{collections::BTreeSet, fs};

use taskwatch_harness::workspace_root;

/// What stands in backticks as `path/of/file.rs::name_of_test`, in two.
fn named(text: &str) -> BTreeSet<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quote| quote.contains(".rs::")).filter_map(|quote| quote.split_once("::")).collect()
}

/// Whether a source has a test of this name: a function with an attribute above it that makes it one.
fn has(source: &str, test: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {test}(")) else { return false };
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    attributes.lines().any(|line| line.trim().starts_with("#[") && line.contains("test"))
}

#[test]
fn each_test_that_security_md_names_is_there() {
    let root = workspace_root();
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let claims = named(&text);
    assert!(claims.len() > 20, "{claims:?}");
    let missing = claims.iter().filter(|(file, test)| {
        let source = fs::read_to_string(root.join(file)).unwrap_or_default();
        !has(&source, test)
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:#?}");
}

#[test]
fn names_are_found_in_backticks_only_and_stand_for_tests_only() {
    let found = named("a `src/a.rs::one`, b `src/b.rs`, `a::b` and `tests/it/c.rs::two` but not src/d.rs::three");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("src/a.rs", "one"), ("tests/it/c.rs", "two")]);
    let source = "#[tokio::test(start_paused = true)]\nasync fn one() {}\n\nfn helper() {}\n";
    assert!(has(source, "one") && !has(source, "helper") && !has(source, "two"));
}
