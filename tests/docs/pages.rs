//! The pages of the documentation, with their headings and links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A Markdown file.
pub struct Page {
    /// Its path from the root of the repository, with `/`.
    pub path: String,
    /// The anchors of its headings.
    pub anchors: BTreeSet<String>,
    /// Where it links to, with the line of each link.
    pub links: Vec<(usize, String)>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// All pages, by path.
pub fn all() -> BTreeMap<String, Page> {
    let mut files = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    files.extend(files_below("docs").into_iter().filter(|path| path.ends_with(".md")));
    files.into_iter().map(|path| (path.clone(), Page::read(path))).collect()
}

/// The files of a folder and of those below it, as paths from the root.
pub fn files_below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

impl Page {
    fn read(path: String) -> Self {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let mut page = Self { path, anchors: BTreeSet::new(), links: Vec::new() };
        let mut heading: Option<String> = None;
        for (event, span) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = || text[..span.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line(), dest_url.into_string()));
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    page.links.extend(attributes(&html).map(|link| (line(), link)));
                }
                _ => {}
            }
        }
        page
    }

    /// As forges and mdBook make it: lower case, blanks as hyphens, without punctuation, numbered if it is not the first.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase();
        let names = std::iter::once(anchor.clone()).chain((1..).map(|number| format!("{anchor}-{number}")));
        let free = names.into_iter().find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }

    /// The path from the root that a relative link of this page leads to.
    pub fn resolve(&self, link: &str) -> String {
        if link.is_empty() {
            return self.path.clone();
        }
        let mut parts: Vec<&str> = Path::new(&self.path).parent().unwrap().to_str().unwrap().split('/').collect();
        parts.retain(|part| !part.is_empty());
        for part in link.split('/') {
            match part {
                "." | "" => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        parts.join("/")
    }
}

/// The values of `src` and `href`.
fn attributes(html: &str) -> impl Iterator<Item = String> {
    let values = |name| html.split(name).skip(1).filter_map(|rest| rest.split('"').next());
    values("src=\"").chain(values("href=\"")).map(str::to_owned)
}
