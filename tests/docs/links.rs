//! Links lead to files and headings that exist. Links to other sites are not fetched: `.ci/docs` lists them.

use std::collections::BTreeMap;

use crate::pages::{self, Page};

const SUMMARY: &str = "docs/SUMMARY.md";
const INDEX: &str = "docs/README.md";

/// The links to files of the repository: (the page, the line, the file, the heading).
fn relative(pages: &BTreeMap<String, Page>) -> impl Iterator<Item = (&Page, usize, String, Option<&str>)> {
    let of_page = |page: &'_ Page| page.links.iter().filter(|(_, link)| !is_external(link)).count();
    assert!(pages.values().map(of_page).sum::<usize>() > 100, "the links are found");
    pages.values().flat_map(|page| {
        page.links.iter().filter(|(_, link)| !is_external(link)).map(move |(line, link)| {
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(file, to)| (file, Some(to)));
            (page, *line, page.resolve(file), heading)
        })
    })
}

fn is_external(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let pages = pages::all();
    let mut wrong = Vec::new();
    for (page, line, file, heading) in relative(&pages) {
        let has = |heading: &str| pages.get(&file).is_none_or(|target| target.anchors.contains(heading));
        if !pages::root().join(&file).exists() {
            wrong.push(format!("{}:{line}: there is no {file}", page.path));
        } else if let Some(heading) = heading.filter(|heading| !has(heading)) {
            wrong.push(format!("{}:{line}: {file} has no heading #{heading}", page.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_page_of_the_book_links_only_into_the_book() {
    let pages = pages::all();
    let outside: Vec<String> = relative(&pages)
        .filter(|(page, _, file, _)| page.path.starts_with("docs/") && !file.starts_with("docs/"))
        .map(|(page, line, file, _)| format!("{}:{line}: {file}", page.path))
        .collect();
    assert!(outside.is_empty(), "these do not exist in the book: {outside:#?}");
}

#[test]
fn every_page_of_the_book_is_once_in_its_summary_and_in_the_list_of_pages() {
    let pages = pages::all();
    let of_book = || pages.keys().map(String::as_str).filter(|path| path.starts_with("docs/") && *path != SUMMARY);
    let linked = |list: &str| -> Vec<String> {
        let list = &pages[list];
        list.links.iter().map(|(_, link)| list.resolve(link)).filter(|file| file.ends_with(".md")).collect()
    };
    let count = |list: &[String], page: &str| list.iter().filter(|file| *file == page).count();
    let (summary, index) = (linked(SUMMARY), linked(INDEX));
    let missing: Vec<&str> =
        of_book().filter(|page| count(&summary, page) != 1 || *page != INDEX && count(&index, page) != 1).collect();
    assert!(missing.is_empty(), "not once in {SUMMARY} and in {INDEX}: {missing:?}");
}

#[test]
fn pages_that_the_source_names_exist() {
    let pages = pages::all();
    let mut wrong = Vec::new();
    let folders = ["src", "tests", ".ci", "benches", "systemd", "launchd", "windows", "fuzz/targets"];
    let mut files: Vec<String> = folders.iter().flat_map(|folder| pages::files_below(folder)).collect();
    files.extend(["Cargo.toml".to_owned(), "deny.toml".to_owned()]);
    for file in files {
        // other files are bytes
        let Ok(text) = std::fs::read_to_string(pages::root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for rest in line.split("docs/").skip(1) {
                let end = rest.find(|c: char| !c.is_alphanumeric() && !"-_./".contains(c)).unwrap_or(rest.len());
                let name = rest[..end].trim_end_matches('.');
                if name.ends_with(".md") && !pages.contains_key(&format!("docs/{name}")) {
                    wrong.push(format!("{file}:{}: there is no docs/{name}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
