//! Opening a page in the user's browser, where there is one.

use std::process::{Command, Stdio};

/// Opens a page; `false` when there is no browser to open it in.
pub(super) fn open(url: &str) -> bool {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(words) = words(url, &variable) else { return false };
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // what it does with the page is its own affair: it is not waited for
    match command.spawn() {
        Ok(mut child) => {
            std::thread::spawn(move || drop(child.wait()));
            true
        }
        Err(_) => false,
    }
}

/// The command line that opens a page.
fn words(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let with = |words: &[&str]| Some(words.iter().copied().chain([url]).map(str::to_owned).collect());
    if let Some(wanted) = variable("BROWSER") {
        // several, of which the first is as good as any
        let first = wanted.split(':').next().unwrap_or_default();
        let mut words: Vec<String> = first.split_whitespace().map(|word| word.replace("%s", url)).collect();
        if !first.contains("%s") {
            words.push(url.to_owned());
        }
        return (words.len() > 1).then_some(words);
    }
    if cfg!(target_os = "macos") {
        return with(&["open"]);
    }
    if cfg!(windows) {
        return with(&["rundll32", "url.dll,FileProtocolHandler"]);
    }
    // without a screen a browser would open in the terminal, or nowhere
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variable(name).is_some());
    let is_wsl = variable("WSL_DISTRO_NAME").is_some();
    if is_wsl && !has_screen {
        return with(&["wslview"]);
    }
    has_screen.then(|| with(&["xdg-open"])).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_browser_goes_first() {
        let words = |browser: &str| words("http://u", &|name| (name == "BROWSER").then(|| browser.to_owned()));
        assert_eq!(words("my-browser:other").unwrap(), ["my-browser", "http://u"]);
        assert_eq!(words("b --new %s").unwrap(), ["b", "--new", "http://u"]);
        assert_eq!(words(" "), Some(vec!["http://u".to_owned()]).filter(|words| words.len() > 1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_a_screen_there_is_none() {
        assert_eq!(words("http://u", &|_| None), None);
        let screen = |name: &str| (name == "DISPLAY").then(|| ":0".to_owned());
        assert_eq!(words("http://u", &screen).unwrap(), ["xdg-open", "http://u"]);
    }
}
