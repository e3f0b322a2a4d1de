//! The files of the page, part of the program.

macro_rules! files {
    ($($name:literal: $kind:literal),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("static/", $name)))),*]
    };
}

/// Name, content type and text of each.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "strings.js": "text/javascript; charset=utf-8",
    "format.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "connection.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "accounts.js": "text/javascript; charset=utf-8",
    "leases.js": "text/javascript; charset=utf-8",
    "requests.js": "text/javascript; charset=utf-8",
    "history.js": "text/javascript; charset=utf-8",
    "events.js": "text/javascript; charset=utf-8",
};

/// Content type and text of a file.
pub(super) fn find(name: &str) -> Option<(&'static str, &'static str)> {
    FILES.iter().find(|(known, ..)| *known == name).map(|(_, kind, text)| (*kind, *text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resource that is loaded from elsewhere would tell others that lessor runs here.
    #[test]
    fn no_file_names_another_host() {
        for (name, _, text) in FILES {
            // what is written for a reader: names of XML vocabularies
            let text = text.replace("http://www.w3.org/", "");
            for part in ["http://", "https://", "src=\"//", "url(", "@import", "innerHTML", "eval("] {
                assert!(!text.contains(part), "{name} contains {part}");
            }
        }
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        for (name, kind, text) in FILES.iter().filter(|(_, kind, _)| kind.starts_with("text/javascript")) {
            for (_, rest) in text.match_indices("from './").map(|(at, part)| text.split_at(at + part.len())) {
                let imported = rest.split('\'').next().unwrap();
                assert!(find(imported).is_some(), "{name} ({kind}) imports {imported}");
            }
        }
        let index = find("index.html").unwrap().1;
        for (_, rest) in index.match_indices("\"/ui/").map(|(at, part)| index.split_at(at + part.len())) {
            let named = rest.split('"').next().unwrap();
            assert!(find(named).is_some(), "index.html names {named}");
        }
    }
}
