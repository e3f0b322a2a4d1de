//! Commands that the messages of the shared pool name exist, with their options.

use crate::cli::commands::tests::commands;

/// The commands that a text of the source names: what follows `lessor` as far as it is words and options.
fn named_commands(source: &str) -> Vec<String> {
    let code: String = source.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    // a literal that goes on in the next line
    let code = code.join("\n").replace("\\\n", " ");
    let named = code.match_indices("lessor ").filter(|(at, _)| {
        code[..*at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && !"/-_".contains(before))
    });
    let text = |at: usize| {
        let line = code[at..].lines().next().unwrap_or_default();
        line.split(['"', ';', ':', ')', '`', ',', '\'', '{', '\\']).next().unwrap_or_default().to_owned()
    };
    named.map(|(at, _)| text(at)).collect()
}

#[test]
fn every_command_that_the_shared_pool_names_exists() {
    fn sources(path: &std::path::Path, all: &mut Vec<std::path::PathBuf>) {
        if path.is_file() {
            return all.push(path.to_owned());
        }
        let entries = std::fs::read_dir(path).unwrap();
        entries.for_each(|entry| sources(&entry.unwrap().path(), all));
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for place in [
        "shared_pool",
        "daemon/many_hosts",
        "daemon/api/pool",
        "daemon/refresh/over_hosts",
        "daemon/view/pool.rs",
        "daemon/view/warnings.rs",
        "cli/commands/pool",
        "cli/ui/pool.rs",
        "pool/seats",
    ] {
        sources(&root.join(place), &mut files);
    }
    let all = commands();
    let groups: Vec<&String> =
        all.iter().filter(|(_, command)| command.has_subcommands()).map(|(name, _)| name).collect();
    let mut checked = 0;
    // `keys.rs` has the purposes of its keys in such words
    let is_code = |file: &&std::path::PathBuf| {
        file.extension().is_some_and(|kind| kind == "rs") && !file.ends_with("shared_pool/keys.rs")
    };
    for file in files.iter().filter(is_code) {
        for named in named_commands(&std::fs::read_to_string(file).unwrap()) {
            let words: Vec<&str> = named.split_whitespace().skip(1).collect();
            let Some((_, command)) = (1..=words.len().min(2))
                .rev()
                .find_map(|length| all.iter().find(|(name, _)| *name == words[..length].join(" ")))
            else {
                // prose about lessor, unless it begins like a command
                let is_group = words.first().is_some_and(|first| groups.iter().any(|group| *group == first));
                assert!(!is_group, "{}: there is no command `{named}`", file.display());
                continue;
            };
            checked += 1;
            assert!(
                !command.has_subcommands() || words.len() == 1,
                "{}: there is no command `{named}`",
                file.display()
            );
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let option = option.trim_end_matches(|letter: char| !letter.is_alphanumeric());
                let is_known = command.get_arguments().any(|known| known.get_long() == Some(option));
                assert!(is_known || option == "json", "{}: `{named}` has no option --{option}", file.display());
            }
        }
    }
    assert!(checked > 50, "only {checked} commands were found");
}
