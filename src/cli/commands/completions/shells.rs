//! The scripts for the shells, what they pass, and how each shell wants its answer.

use std::ffi::OsString;

use clap_complete::env::EnvCompleter;
use clap_complete::{CompletionCandidate, Shell, env};

use super::VARIABLE;

/// Bash passes the line itself: it would split words at `@` and `:`, which names contain.
const BASH: &str = r#"_lessor() {
    local candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("$candidate")
    done < <(LESSOR_COMPLETE=bash command lessor -- "$1" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o nosort -F _lessor lessor 2>/dev/null || complete -F _lessor lessor
"#;

const ZSH: &str = r#"#compdef lessor
_lessor() {
    local -a found directories others
    found=("${(@f)$(LESSOR_COMPLETE=zsh command lessor -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    local one
    for one in $found; do
        if [[ ${one%%:*} == */ ]]; then directories+=("$one"); else others+=("$one"); fi
    done
    (( $#directories )) && _describe -V 'directories' directories -S ''
    (( $#others )) && _describe -V 'lessor' others
}
if [[ $funcstack[1] == _lessor ]]; then
    _lessor "$@"
else
    compdef _lessor lessor
fi
"#;

/// What the user has typed.
pub(super) struct Typed {
    /// The words up to the cursor, without quotes; the first is `lessor`, the last is to be completed.
    pub(super) words: Vec<String>,
    /// Of bash: the part of the last word that it replaces, and the quotation mark that is open.
    replaced: Option<(String, Option<char>)>,
}

impl Typed {
    /// From what the script passes; `None` if that is not a line of `lessor`.
    pub(super) fn new(shell: Shell, arguments: Vec<OsString>) -> Option<Self> {
        let mut words: Vec<String> =
            arguments.into_iter().map(|word| word.into_string().ok()).collect::<Option<_>>()?;
        if shell != Shell::Bash {
            words.first()?;
            return Some(Self { words, replaced: None });
        }
        let [name, line, replaced] = words.as_slice() else { return None };
        let mut on_line = split(line);
        // variables may be set before it
        let begin = on_line.iter().position(|word| word.value == *name)?;
        let last = on_line.last()?;
        let raw = &line[last.start..];
        let replaced = if raw.ends_with(replaced.as_str()) { replaced.as_str() } else { raw }.to_owned();
        let open = last.open;
        words = on_line.drain(begin..).map(|word| word.value).collect();
        Some(Self { words, replaced: Some((replaced, open)) })
    }

    /// The word to be completed.
    pub(super) fn current(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }
}

/// The script that makes a shell ask this program.
pub(super) fn registration(shell: Shell) -> std::io::Result<String> {
    let built_in: &dyn EnvCompleter = match shell {
        Shell::Bash => return Ok(BASH.to_owned()),
        Shell::Zsh => return Ok(ZSH.to_owned()),
        Shell::Fish => &env::Fish,
        Shell::PowerShell => &env::Powershell,
        Shell::Elvish => &env::Elvish,
        _ => return Err(std::io::Error::other("there are no completions for this shell")),
    };
    let mut script = Vec::new();
    built_in.write_registration(VARIABLE, "lessor", "lessor", "lessor", &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The candidates as the shell wants them, one a line.
pub(super) fn answer(shell: Shell, typed: &Typed, candidates: &[CompletionCandidate]) -> String {
    let mut text = String::new();
    for candidate in candidates {
        let value = candidate.get_value().to_string_lossy();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = crate::cli::ui::clean(help.lines().next().unwrap_or_default());
        text += &match shell {
            Shell::Bash => for_bash(typed, &value),
            Shell::Zsh => {
                let value = value.replace('\\', "\\\\").replace(':', "\\:");
                if help.is_empty() { value } else { format!("{value}:{}", help.replace('\\', "\\\\")) }
            }
            Shell::PowerShell => format!("{}\t{help}", for_powershell(&value)),
            Shell::Elvish => value.into_owned(),
            _ => format!("{value}\t{help}"),
        };
        text.push('\n');
    }
    text
}

/// What bash inserts for the part that it replaces: what is typed stays as it is, the rest is quoted as it is.
fn for_bash(typed: &Typed, value: &str) -> String {
    let Some((replaced, open)) = &typed.replaced else { return value.to_owned() };
    match value.strip_prefix(typed.current()) {
        Some(rest) => format!("{replaced}{}", quote(rest, *open)),
        None => quote(value, None),
    }
}

fn quote(text: &str, open: Option<char>) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match open {
            Some('\'') if letter == '\'' => quoted += r"'\''",
            Some('\'') => quoted.push(letter),
            Some(_) => {
                if matches!(letter, '"' | '$' | '`' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
            None => {
                if !(letter.is_alphanumeric() || "_./,+:@%=-".contains(letter)) {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
        }
    }
    quoted
}

fn for_powershell(value: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_./:=+-\\".contains(letter);
    if value.chars().all(is_plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

/// A word of a line, without its quotes.
struct LineWord {
    start: usize,
    value: String,
    /// The quotation mark that is not closed.
    open: Option<char>,
}

/// The words of a line as a shell splits them; the last one may be empty.
fn split(line: &str) -> Vec<LineWord> {
    let mut words = Vec::new();
    let mut word: Option<LineWord> = None;
    let mut letters = line.char_indices();
    while let Some((at, letter)) = letters.next() {
        let open = word.as_ref().and_then(|word| word.open);
        if open.is_none() && letter.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| LineWord { start: at, value: String::new(), open: None });
        match (open, letter) {
            (Some(mark), _) if letter == mark => word.open = None,
            (None, '\'' | '"') => word.open = Some(letter),
            (None | Some('"'), '\\') => word.value.extend(letters.next().map(|(_, letter)| letter)),
            _ => word.value.push(letter),
        }
    }
    words.push(word.unwrap_or(LineWord { start: line.len(), value: String::new(), open: None }));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, line: &str, replaced: &str) -> Typed {
        Typed::new(Shell::Bash, [name, line, replaced].map(OsString::from).to_vec()).unwrap()
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let line = typed("lessor", r#"A=1 lessor account show "my work"#, "my work");
        assert_eq!(line.words, ["lessor", "account", "show", "my work"]);
        assert_eq!(typed("lessor", r"lessor show my\ w 'it''s' ", "").words, ["lessor", "show", "my w", "its", ""]);
        assert!(Typed::new(Shell::Bash, ["lessor", "other x", "x"].map(OsString::from).to_vec()).is_none());
    }

    #[test]
    fn what_is_typed_stays_and_the_rest_is_quoted_as_it_is() {
        for (line, replaced, value, expected) in [
            ("lessor show ", "", "it's $HOME", r"it\'s\ \$HOME"),
            (r"lessor show my\ w", r"my\ w", "my work", r"my\ work"),
            ("lessor show 'my w", "my w", "my work's", r"my work'\''s"),
            ("lessor show \"my w", "my w", "my w$x", r"my w\$x"),
            // bash splits at `@` and replaces only what is behind it
            ("lessor show work@ex", "ex", "work@example.com", "example.com"),
            ("lessor show --account=wo", "wo", "--account=work", "work"),
        ] {
            assert_eq!(for_bash(&typed("lessor", line, replaced), value), expected, "{line}");
        }
    }

    #[test]
    fn each_shell_gets_its_own_quoting() {
        let typed = Typed { words: vec!["lessor".to_owned(), String::new()], replaced: None };
        let found = [CompletionCandidate::new("a:b c").help(Some("anthropic: ready".to_owned().into()))];
        assert_eq!(answer(Shell::Zsh, &typed, &found), "a\\:b c:anthropic: ready\n");
        assert_eq!(answer(Shell::Fish, &typed, &found), "a:b c\tanthropic: ready\n");
        assert_eq!(answer(Shell::PowerShell, &typed, &found), "'a:b c'\tanthropic: ready\n");
        assert_eq!(answer(Shell::Elvish, &typed, &found), "a:b c\n");
    }

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = registration(shell).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("lessor"), "{shell}: {script}");
        }
    }
}
