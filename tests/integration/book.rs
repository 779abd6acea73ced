//! The book in `docs/`: all of it is in its table of contents, its links lead somewhere, and its
//! code is compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::kit::workspace;

/// A page of the book, or another one in Markdown.
struct Page {
    /// From the workspace.
    path: PathBuf,
    /// Its lines without what stands in code, which holds no links.
    text: String,
    /// What a link may name behind `#`.
    anchors: BTreeSet<String>,
    has_rust: bool,
}

impl Page {
    fn read(path: &Path) -> Page {
        let (mut text, mut in_code, mut has_rust) = (String::new(), false, false);
        let (mut anchors, mut times) = (BTreeSet::new(), BTreeMap::<String, usize>::new());
        for line in fs::read_to_string(workspace().join(path)).unwrap().lines() {
            if let Some(fence) = line.trim_start().strip_prefix("```") {
                has_rust |= fence == "rust" || fence.starts_with("rust,");
                in_code = !in_code;
            } else if !in_code {
                text.extend(line.split('`').step_by(2).chain(["\n"]));
                if line.starts_with('#') {
                    let id = anchor(line);
                    let before = times.entry(id.clone()).or_default();
                    anchors.insert(if *before == 0 { id } else { format!("{id}-{before}") });
                    *before += 1;
                }
            }
        }
        Page { path: path.to_owned(), text, anchors, has_rust }
    }

    /// Where its links lead, but for those to the web.
    fn links(&self) -> impl Iterator<Item = &str> {
        let links = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.filter(|link| !link.contains("://"))
    }
}

/// What a heading is called in a link, in mdBook and elsewhere.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The chapters, without the table of contents.
fn chapters() -> Vec<PathBuf> {
    let files = fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let names = files.map(|file| Path::new("docs").join(file.file_name().unwrap()));
    let mut chapters: Vec<_> = names
        .filter(|it| it.extension().is_some_and(|it| it == "md") && !it.ends_with("SUMMARY.md"))
        .collect();
    chapters.sort();
    chapters
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
        plain
    })
}

#[test]
fn every_chapter_is_in_the_table_of_contents_once() {
    let contents = Page::read(Path::new("docs/SUMMARY.md"));
    let mut listed: Vec<_> = contents.links().map(|link| Path::new("docs").join(link)).collect();
    listed.sort();
    assert_eq!(listed, chapters());
}

#[test]
fn every_link_leads_to_a_page_and_a_heading_that_are_there_and_none_out_of_the_book() {
    let mut wrong = Vec::new();
    let others = ["README.md", "ARCHITECTURE.md", "plugin-api/python/README.md"].map(PathBuf::from);
    for page in chapters().iter().chain(&others).map(|path| Page::read(path)) {
        let of_the_book = page.path.starts_with("docs");
        for link in page.links() {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => plain(&page.path.with_file_name(file)),
            };
            let is_there = workspace().join(&target).exists();
            let is_page = target.extension().is_some_and(|it| it == "md");
            let has_heading =
                heading.is_empty() || is_page && Page::read(&target).anchors.contains(heading);
            if !is_there || !has_heading || of_the_book && !target.starts_with("docs") {
                wrong.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_chapter_with_code_of_rust_is_compiled() {
    let compiled = fs::read_to_string(workspace().join("tests/book/src/lib.rs")).unwrap();
    let forgotten = chapters().into_iter().filter(|chapter| {
        Page::read(chapter).has_rust && !compiled.contains(&format!("{:?};", chapter))
    });
    assert_eq!(forgotten.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn headings_are_named_as_mdbook_names_them() {
    let names = ["# What's in `state`, and why?", "## SQLite", "### a_b - c"].map(anchor);
    assert_eq!(names, ["whats-in-state-and-why", "sqlite", "a_b---c"]);
}
