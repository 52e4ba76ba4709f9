//! The rooms of the house: what each module of `src/` may import (design §6), read from the sources themselves.

use std::{collections::BTreeSet, fs, path::Path};

use taskwatch_harness::workspace_root;

/// Each module, and what stands to its left. `main` is `src/main.rs`.
const ROOMS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("hash", &[]),
    ("api", &[]),
    ("domain", &["api", "hash"]),
    ("providers", &["api", "domain"]),
    ("tenancy", &["sync"]),
    ("ownership", &["hash"]),
    ("ops", &["tenancy", "ownership", "sync"]),
    ("engine", &["api", "domain", "providers", "ops", "tenancy", "ownership", "sync"]),
    ("controller", &["api", "domain", "providers", "engine", "ops", "tenancy", "ownership", "sync"]),
    ("commands", &["api", "domain", "providers", "engine", "controller", "ops", "tenancy"]),
    ("main", &["commands"]),
];

const LONGEST_FILE: usize = 500;

#[test]
fn each_module_imports_only_from_its_left() {
    let src = workspace_root().join("src");
    let mut faults = Vec::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let module = module_path(relative);
        if module.is_empty() && relative != Path::new("main.rs") {
            continue; // lib.rs names all of them
        }
        let room = room(&module);
        let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| {
            panic!("src/{} is in no room: give {room} its place in tests/it/layers.rs", relative.display())
        });
        for target in imports(&fs::read_to_string(&file).unwrap(), &module) {
            if target != room && !allowed.contains(&target.as_str()) {
                faults.push(format!("src/{}: {room} must not import {target}", relative.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_are_short_and_nothing_is_left_open() {
    let root = workspace_root();
    let mut faults = Vec::new();
    for file in ["src", "tests"].iter().flat_map(|directory| sources(&root.join(directory))) {
        let (text, name) = (fs::read_to_string(&file).unwrap(), file.strip_prefix(&root).unwrap().display());
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{name} has {lines} lines; {LONGEST_FILE} are enough"));
        }
        let tokens = tokens(&text);
        for open in ["todo", "unimplemented"] {
            if tokens.windows(2).any(|pair| pair[0] == open && pair[1] == "!") {
                faults.push(format!("{name} has {open}!"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The reader of imports sees every way to write one.
#[test]
fn imports_are_found_however_they_are_written() {
    let text = r##"
        // use crate::comment::X; "
        /* crate::block::X */
        use crate::{api::{A, B}, domain as d};
        use super::super::engine;
        use super::{sibling, super::ops::{clock, args}};
        const S: &str = "crate::string::X \" "; const R: &str = r#"crate::raw::"X"#; const C: char = '"';
        fn f<'a>(x: &'a crate::providers::P) { crate::controller::run(); self::x(); foo::crate_like::y(); }
        mod tests { use super::super::inner; use super::super::super::main_room; }
    "##;
    let module = ["engine".to_owned(), "queue".to_owned()];
    let found = imports(text, &module);
    let expected = ["api", "controller", "domain", "engine", "main_room", "ops", "providers"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let program = imports("use taskwatch::{api, ops::args}; fn main() { crate::commands::run(); }", &[]);
    assert_eq!(program.iter().map(String::as_str).collect::<Vec<_>>(), ["api", "commands", "ops"]);
}

/// All Rust files under a directory.
fn sources(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path of the module that a file of `src/` holds; empty for the roots of the crates.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<_> =
        file.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    path
}

fn room(module: &[String]) -> &str {
    match module.first().map(String::as_str) {
        None => "main",
        Some(room) => room,
    }
}

/// The top-level modules that the code of `module` names, by `crate::`, by the crate's own name or by way of `super::`.
fn imports(text: &str, module: &[String]) -> BTreeSet<String> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    // For each open brace the name of the module that it begins, if it does.
    let mut open: Vec<Option<&str>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let word = tokens[at].as_str();
        match word {
            "{" => {
                let named = at >= 2 && tokens[at - 2] == "mod";
                open.push(named.then(|| tokens[at - 1].as_str()));
            }
            "}" => drop(open.pop()),
            "crate" | "super" | "taskwatch"
                // The library is called by its name from the program only; within it, api::taskwatch is.
                if (word != "taskwatch" || module.is_empty())
                    && tokens.get(at + 1).is_some_and(|next| next == "::")
                    && (at == 0 || tokens[at - 1] != "::") =>
            {
                let mut base = module.to_vec();
                base.extend(open.iter().flatten().map(|&name| name.to_owned()));
                at = path(&tokens, at, &base, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one path, or a tree of them, as seen from the module `base`. Returns where it ends.
fn path(tokens: &[String], mut at: usize, base: &[String], found: &mut BTreeSet<String>) -> usize {
    let mut here = base.to_vec();
    while let Some(word) = tokens.get(at) {
        match word.as_str() {
            "crate" => here.clear(),
            "taskwatch" if base.is_empty() || base[0] == "commands" => here.clear(),
            "self" => {}
            "super" => drop(here.pop()),
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|word| word != "}") {
                    let before = at;
                    at = path(tokens, at, &here, found);
                    while tokens.get(at).is_some_and(|word| word != "," && word != "}") {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at).is_some_and(|word| word == ","));
                    if at == before {
                        break;
                    }
                }
                return at + 1;
            }
            word => here.push(word.to_owned()),
        }
        at += 1;
        if tokens.get(at).is_none_or(|word| word != "::") {
            break;
        }
        at += 1;
    }
    found.extend(here.first().cloned());
    at
}

/// Words, `::` and single signs; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let (mut found, mut i) = (Vec::new(), 0);
    while i < text.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => i += text[i..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => {
                i += 2;
                while i < text.len() && (at(i), at(i + 1)) != ('*', '/') {
                    i += 1;
                }
                i += 2;
            }
            ('r', '"' | '#') if at(i + 1 + hashes(&text, i + 1)) == '"' => {
                let hashes = hashes(&text, i + 1);
                i += hashes + 2;
                while i < text.len() && !(at(i) == '"' && self::hashes(&text, i + 1) >= hashes) {
                    i += 1;
                }
                i += hashes + 1;
            }
            ('"', _) => {
                i += 1;
                while i < text.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            ('\'', '\\') => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (c, _) if c.is_alphanumeric() || c == '_' => {
                let word: String = text[i..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                i += word.chars().count();
                found.push(word);
            }
            (':', ':') => {
                found.push("::".to_owned());
                i += 2;
            }
            (c, _) => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    found
}

fn hashes(text: &[char], from: usize) -> usize {
    text[from.min(text.len())..].iter().take_while(|c| **c == '#').count()
}
