//! What the sources and the documents refer to is there: sections (`design §3`, `upstreams.md §2.3 "Token"`), files, headings, and the
//! words of the glossary.
//!
//! A reference is written `PAGE §SECTION`, where `PAGE` is a file of `docs/design/`, or `design` for its `contract.md`. A section alone
//! is one of the page that the same file named last.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use taskwatch_harness::workspace_root;

/// Where references are looked for.
const REFERRING: [&str; 10] = [
    "src",
    "tests",
    "docs",
    "deploy",
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
];
/// What is read there; by the end of its name.
const READ: [&str; 6] = [".rs", ".md", ".yaml", ".toml", ".go", "Makefile"];

/// A page's sections: their numbers, as `2.3`, and what stands in each.
type Sections = BTreeMap<String, String>;

#[test]
fn each_section_that_is_referred_to_is_there() {
    let root = workspace_root();
    let pages = pages(&root);
    let (mut found, mut faults) = (0, Vec::new());
    for file in REFERRING.iter().flat_map(|place| files(&root.join(place))) {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        for reference in references(&name, &text) {
            found += 1;
            if let Err(fault) = resolve(&pages, &reference) {
                faults.push(format!("{name}:{}: {fault}", reference.line));
            }
        }
    }
    assert!(found > 100, "only {found} references were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_link_leads_to_a_file_and_a_heading_that_are_there() {
    let root = workspace_root();
    let markdown: Vec<_> =
        REFERRING.iter().flat_map(|place| files(&root.join(place))).filter(|file| is_page(file)).collect();
    let (mut found, mut faults) = (0, Vec::new());
    for file in &markdown {
        let name = file.strip_prefix(&root).unwrap().display();
        for (line, target) in links(&fs::read_to_string(file).unwrap()) {
            found += 1;
            if let Err(fault) = follow(file, &target) {
                faults.push(format!("{name}:{line}: {target}: {fault}"));
            }
        }
    }
    assert!(found > 50, "only {found} links were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_file_that_a_page_names_is_there() {
    let root = workspace_root();
    let (mut found, mut faults) = (0, Vec::new());
    for page in REFERRING.iter().flat_map(|place| files(&root.join(place))).filter(|file| is_page(file)) {
        if page.ends_with("upstreams.md") {
            continue; // it names files of other repositories
        }
        let text = fs::read_to_string(&page).unwrap();
        for (line, path) in named_files(&text) {
            found += 1;
            // Pages about the code leave out `src/`; those in a directory name what is beside them.
            let places = [root.join(path), root.join("src").join(path), page.parent().unwrap().join(path)];
            if !places.iter().any(|place| place.exists()) {
                faults.push(format!("{}:{line}: there is no {path}", page.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(found > 100, "only {found} files are named");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_glossary_is_sorted_and_its_words_are_those_of_the_code() {
    let root = workspace_root();
    let glossary = fs::read_to_string(root.join("docs/design/glossary.md")).unwrap();
    let words: Vec<_> = glossary.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(words.len() > 50 && words.is_sorted(), "{words:?}");
    let mut code = HashSet::new();
    for file in files(&root.join("src")) {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        code.extend(lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).map(str::to_owned));
    }
    let gone: Vec<_> = words.iter().filter(|word| !code.contains(**word)).collect();
    assert!(gone.is_empty(), "docs/design/glossary.md explains words that the code has not: {gone:?}");
}

#[test]
fn references_are_found_and_resolved_however_they_are_written() {
    let text = "// a (upstreams.md §1.2, §1.3), RFC 9110 §15 and §15.1\n// upstreams.md §2 \"Token\"; design §3.\nlet x = \"§9\";\n";
    let found: Vec<_> = references("src/a.rs", text).map(|r| (r.line, r.page, r.section, r.name)).collect();
    let (upstreams, contract) = (|| Some("upstreams.md".to_owned()), || Some("contract.md".to_owned()));
    let expected = [
        (1, upstreams(), "1.2".to_owned(), None),
        (1, upstreams(), "1.3".to_owned(), None),
        (2, upstreams(), "2".to_owned(), Some("Token".to_owned())),
        (2, contract(), "3".to_owned(), None),
    ];
    assert_eq!(found, expected);
    let alone: Vec<_> = references("docs/design/engine.md", "See §2.").map(|r| r.page).collect();
    assert_eq!(alone, [Some("engine.md".to_owned())]);

    let pages = HashMap::from([(
        "upstreams.md".to_owned(),
        sections("# X\n\n## 2. Two\n\nA **Token**.\n\n### 2.1 Part\n\nB\n"),
    )]);
    let refer = |section: &str, name: Option<&str>| {
        let (page, section, name) = (upstreams(), section.to_owned(), name.map(str::to_owned));
        resolve(&pages, &Reference { line: 1, page, section, name })
    };
    for found in [refer("2", None), refer("2", Some("Token")), refer("2", Some("B")), refer("2.1", None)] {
        assert_eq!(found, Ok(()));
    }
    assert!(refer("3", None).is_err() && refer("2.1", Some("Token")).is_err());
    assert!(resolve(&pages, &Reference { line: 1, page: None, section: "2".to_owned(), name: None }).is_err());
    assert!(
        resolve(&pages, &Reference { line: 1, page: Some("old.md".to_owned()), section: "2".to_owned(), name: None })
            .is_err()
    );
}

#[test]
fn files_are_found_where_they_are_named() {
    let text = "`src/a.rs` and `b/c.rs::test`, `d/`, not `e.rs`, `/metrics`, `src/NAME.rs`, `GET /f/g` or h/i.rs\n```\n`j/k.rs`\n```\n";
    assert_eq!(named_files(text), [(1, "src/a.rs"), (1, "b/c.rs"), (1, "d/")]);
}

#[test]
fn links_and_anchors_are_found_however_they_are_written() {
    let text = "[a](b.md) `[no](x)` [c [d]](e.md#f) ![g](h.png)\n```\n[no](y)\n```\n[i](https://j)\n";
    assert_eq!(
        links(text),
        [(1, "b.md".to_owned()), (1, "e.md#f".to_owned()), (1, "h.png".to_owned()), (5, "https://j".to_owned())]
    );
    let headings = "# One `two`, three!\n## A-b_c 1.2\n## A-b_c 1.2\n```sh\n# no\n```\n### [Link](x.md)\n";
    assert_eq!(anchors(headings), ["one-two-three", "a-b_c-12", "a-b_c-12-1", "link"]);
}

/// One reference to a section.
struct Reference {
    line: usize,
    /// None: no page was named before it.
    page: Option<String>,
    section: String,
    /// A word that stands in that section.
    name: Option<String>,
}

/// All references to sections of our own pages; of sources those in comments alone.
fn references(name: &str, text: &str) -> impl Iterator<Item = Reference> {
    let own = name.strip_prefix("docs/design/").map(str::to_owned);
    let (mut page, mut found) = (own.clone(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let comment = match text.find("//") {
            _ if !has_extension(name, "rs") => 0,
            Some(at) => at,
            None => continue,
        };
        for (at, _) in text.match_indices('§').filter(|(at, _)| *at >= comment) {
            if let Some(named) = page_before(&text[..at]) {
                page = Some(named);
            }
            let after = &text[at + '§'.len_utf8()..];
            let length = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
            let section = after[..length].trim_end_matches('.').to_owned();
            let rest = after[section.len()..].trim_start_matches(',');
            let name = rest.strip_prefix(" \"").and_then(|rest| rest.split('"').next()).map(str::to_owned);
            // Those of other people's documents are theirs to keep.
            let is_foreign = page.as_ref().is_some_and(|page| page.starts_with("RFC") || page == "URL");
            if !is_foreign && !section.is_empty() {
                found.push(Reference { line, page: page.clone(), section, name });
            }
        }
        if own.is_some() {
            page.clone_from(&own);
        }
    }
    found.into_iter()
}

/// The page whose name stands before a section sign; none where something else does.
fn page_before(text: &str) -> Option<String> {
    let mut words =
        text.trim_end().rsplit(|c: char| c.is_whitespace() || "(`[".contains(c)).filter(|word| !word.is_empty());
    let (last, before) = (words.next()?, words.next().unwrap_or_default());
    let last = last.split("](").next().unwrap_or_default().trim_end_matches([']', ')', '`']);
    match last {
        "design" => Some("contract.md".to_owned()),
        "URL" => Some("URL".to_owned()),
        _ if before == "RFC" => Some(format!("RFC {last}")),
        _ if has_extension(last, "md") => Some(last.rsplit('/').next().unwrap_or_default().to_owned()),
        _ => None,
    }
}

fn resolve(pages: &HashMap<String, Sections>, reference: &Reference) -> Result<(), String> {
    let Reference { page, section, name, .. } = reference;
    let page = page.as_ref().ok_or_else(|| format!("§{section} of which page?"))?;
    let sections = pages.get(page).ok_or_else(|| format!("there is no docs/design/{page}"))?;
    // The text of a section is that of its parts, too.
    let texts = sections.iter().filter(|(number, _)| *number == section || number.starts_with(&format!("{section}.")));
    let texts: Vec<_> = texts.map(|(_, text)| text).collect();
    if !sections.contains_key(section) {
        return Err(format!("{page} has no §{section}"));
    }
    match name {
        Some(name) if !texts.iter().any(|text| text.contains(name)) => {
            Err(format!("{page} §{section} has no \"{name}\""))
        }
        _ => Ok(()),
    }
}

/// The pages of `docs/design/` by their names.
fn pages(root: &Path) -> HashMap<String, Sections> {
    let pages = files(&root.join("docs/design")).into_iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, sections(&fs::read_to_string(file).unwrap()))
    });
    pages.collect()
}

/// The numbered sections, by headings as `## 2. Title` and `### 2.3 Title`; and the items of numbered lists, `4.` in section 0 as `0.4`.
fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("##") {
            let number = heading.trim_start_matches('#').split_whitespace().next().unwrap_or_default();
            current = number.starts_with(|c: char| c.is_ascii_digit()).then(|| number.trim_end_matches('.').to_owned());
        }
        let Some(current) = &current else { continue };
        if let Some((number, _)) = line.split_once(". ").filter(|(number, _)| number.parse::<u8>().is_ok()) {
            sections.insert(format!("{current}.{number}"), line.to_owned());
        }
        let section = sections.entry(current.clone()).or_default();
        section.push_str(line);
        section.push('\n');
    }
    sections
}

/// Whether a link from `page` leads somewhere; those to other sites are not followed.
fn follow(page: &Path, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { page.parent().unwrap().join(path) };
    if !file.exists() {
        return Err("there is no such file".to_owned());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let is_there = anchors(&text).iter().any(|heading| heading == anchor);
    if is_there { Ok(()) } else { Err(format!("there is no such heading: {:?}", anchors(&text))) }
}

/// What stands in backticks and looks like the path of a file or directory of this repository: `a/b.rs`, `a/b/`, `a/b.rs::test`.
fn named_files(text: &str) -> Vec<(usize, &str)> {
    let quotes =
        prose(text).flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |quote| (line, quote)));
    let paths = quotes.map(|(line, quote)| (line, quote.split("::").next().unwrap_or_default()));
    let is_path = |path: &str| {
        let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let is_placeholder = path.contains("NAME")
            || path.starts_with('/')
            || ["target/", "dist/"].iter().any(|made| path.starts_with(made));
        let ends = [".rs", ".md", ".yaml", ".toml", ".json", "/"].iter().any(|end| path.ends_with(end));
        is_plain && !is_placeholder && ends && path.contains('/')
    };
    paths.filter(|(_, path)| is_path(path)).collect()
}

/// The targets of all inline links of a page, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        // What stands in backticks is code, not a link.
        let spans = text.split('`').enumerate().map(|(n, span)| if n % 2 == 0 { span } else { "_" });
        let text = spans.collect::<String>();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.map(|target| (line, target.to_owned())));
    }
    found
}

/// What GitHub makes of the headings of a page.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().split("](").next().unwrap_or_default().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = found.iter().filter(|other| {
            **other == anchor || other.strip_prefix(&format!("{anchor}-")).is_some_and(|n| n.parse::<u8>().is_ok())
        });
        let again = again.count();
        found.push(if again == 0 { anchor } else { format!("{anchor}-{again}") });
    }
    found
}

/// The lines of a page that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

fn is_page(file: &Path) -> bool {
    has_extension(file, "md")
}

fn has_extension(path: impl AsRef<Path>, extension: &str) -> bool {
    path.as_ref().extension().is_some_and(|other| other == extension)
}

/// The files that are read below a place, or the place itself.
fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        let name = place.to_string_lossy();
        return READ.iter().filter(|end| name.ends_with(**end)).map(|_| place.to_owned()).take(1).collect();
    }
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !name.starts_with('.') && name != "target" && name != "references.rs"
    };
    let mut entries: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours).collect();
    entries.sort();
    entries.iter().flat_map(|entry| files(entry)).collect()
}
