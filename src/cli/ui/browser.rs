//! Opens a page in the user's browser, if there is one.

use std::process::{Command, Stdio};

/// Opens a page; `false` if no browser was found.
pub(crate) fn open(url: &str) -> bool {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(words) = command_line(url, &variable) else { return false };
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(|mut child| std::thread::spawn(move || drop(child.wait()))).is_ok()
}

fn command_line(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let with = |words: &[&str]| Some(words.iter().copied().chain([url]).map(str::to_owned).collect());
    if let Some(wanted) = variable("BROWSER") {
        // a list of several: the first is used
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
    // without a display a browser would open in the terminal, or not at all
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variable(name).is_some());
    let is_wsl = variable("WSL_DISTRO_NAME").is_some();
    if is_wsl && !has_display {
        return with(&["wslview"]);
    }
    has_display.then(|| with(&["xdg-open"])).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_variable_has_priority() {
        let words = |browser: &str| command_line("http://u", &|name| (name == "BROWSER").then(|| browser.to_owned()));
        assert_eq!(words("my-browser:other").unwrap(), ["my-browser", "http://u"]);
        assert_eq!(words("b --new %s").unwrap(), ["b", "--new", "http://u"]);
        assert_eq!(words(" "), Some(vec!["http://u".to_owned()]).filter(|words| words.len() > 1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_a_display_there_is_no_browser() {
        assert_eq!(command_line("http://u", &|_| None), None);
        let display = |name: &str| (name == "DISPLAY").then(|| ":0".to_owned());
        assert_eq!(command_line("http://u", &display).unwrap(), ["xdg-open", "http://u"]);
    }
}
