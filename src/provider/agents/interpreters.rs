//! Interpreters, and which of their arguments is the script that they run.

/// Programs that run scripts; a version may follow the name.
const INTERPRETERS: &[&str] = &[
    "node",
    "nodejs",
    "bun",
    "deno",
    "python",
    "pythonw",
    "pypy",
    "ruby",
    "perl",
    "php",
    "lua",
    "tclsh",
    "java",
    "sh",
    "bash",
    "dash",
    "ash",
    "zsh",
    "ksh",
    "mksh",
    "fish",
    "nu",
    "busybox",
    "pwsh",
    "powershell",
    "cmd",
    "wscript",
    "cscript",
];

/// Whether a program of this name runs scripts, and is known by the script that it runs.
#[must_use]
pub fn is_interpreter(executable: &str) -> bool {
    INTERPRETERS.contains(&interpreter_name(executable).as_str())
}

/// The file name without a version, and without the mark of a login shell.
fn interpreter_name(executable: &str) -> String {
    let name = parts_of_path(executable).pop().unwrap_or_default();
    name.trim_start_matches('-').trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-').to_owned()
}

/// The parts of a path, in small letters, without the ending of executables on Windows.
pub(super) fn parts_of_path(path: &str) -> Vec<String> {
    let path = path.to_lowercase();
    let path = path.strip_suffix(".exe").unwrap_or(&path);
    let separators: &[char] = if path.starts_with('/') { &['/'] } else { &['/', '\\'] };
    path.split(separators).filter(|part| !part.is_empty() && *part != "?").map(str::to_owned).collect()
}

/// The options of an interpreter that decide which argument is the script.
struct InterpreterOptions {
    /// Letters of options whose value is code or a module: there is no script.
    code: &'static str,
    /// Letters of options with a value, in the same argument or the next one.
    value: &'static str,
    /// Letters of options whose value, if any, is in the same argument.
    attached: &'static str,
    /// The same as `code` and `value`, for options that are words.
    long_code: &'static [&'static str],
    long_value: &'static [&'static str],
    /// Words before the script.
    words: &'static [&'static str],
}

const NO_OPTIONS: InterpreterOptions =
    InterpreterOptions { code: "", value: "", attached: "", long_code: &[], long_value: &[], words: &[] };
const NODE: InterpreterOptions = InterpreterOptions {
    code: "ep",
    value: "rC",
    long_code: &["--eval", "--print"],
    long_value: &[
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--experimental-config-file",
        "--env-file",
        "--env-file-if-exists",
        "--conditions",
        "--input-type",
        "--title",
        "--stack-trace-limit",
        "--unhandled-rejections",
        "--disable-warning",
        "--dns-result-order",
        "--diagnostic-dir",
        "--redirect-warnings",
        "--openssl-config",
        "--icu-data-dir",
    ],
    ..NO_OPTIONS
};
const BUN_AND_DENO: InterpreterOptions = InterpreterOptions {
    code: "ep",
    value: "rc",
    long_code: &["--eval", "--print"],
    long_value: &["--preload", "--config", "--cwd", "--env-file", "--import-map"],
    words: &["run", "x"],
    ..NO_OPTIONS
};
const PYTHON: InterpreterOptions =
    InterpreterOptions { code: "cm", value: "WX", long_value: &["--check-hash-based-pycs"], ..NO_OPTIONS };
const RUBY: InterpreterOptions = InterpreterOptions { code: "e", value: "rICE", attached: "FKTWx", ..NO_OPTIONS };
const PERL: InterpreterOptions = InterpreterOptions { code: "eE", value: "I", attached: "mMCFidDx", ..NO_OPTIONS };
const PHP: InterpreterOptions = InterpreterOptions { code: "rBRE", value: "cdz", long_code: &["--run"], ..NO_OPTIONS };
const LUA: InterpreterOptions = InterpreterOptions { code: "e", value: "l", ..NO_OPTIONS };
const SHELL: InterpreterOptions = InterpreterOptions {
    code: "c",
    value: "oO",
    long_value: &["--rcfile", "--init-file", "--init-command"],
    ..NO_OPTIONS
};
const JAVA: InterpreterOptions =
    InterpreterOptions { long_value: &["-cp", "-classpath", "--class-path", "-p", "--module-path"], ..NO_OPTIONS };
const POWERSHELL: InterpreterOptions = InterpreterOptions {
    long_code: &["-c", "-command", "-e", "-ec", "-encodedcommand"],
    long_value: &["-ep", "-executionpolicy", "-wd", "-workingdirectory", "-version"],
    ..NO_OPTIONS
};

impl InterpreterOptions {
    fn of(interpreter: &str) -> &'static Self {
        match interpreter {
            "node" | "nodejs" => &NODE,
            "bun" | "deno" => &BUN_AND_DENO,
            "python" | "pythonw" | "pypy" => &PYTHON,
            "ruby" => &RUBY,
            "perl" => &PERL,
            "php" => &PHP,
            "lua" => &LUA,
            "java" => &JAVA,
            "pwsh" | "powershell" => &POWERSHELL,
            "cmd" | "wscript" | "cscript" | "tclsh" => &NO_OPTIONS,
            _ => &SHELL,
        }
    }

    fn read(&self, option: &str) -> OptionMeaning {
        let word = option.split_once('=').map_or(option, |(word, _)| word).to_ascii_lowercase();
        if self.long_code.contains(&word.as_str()) {
            return OptionMeaning::Code;
        }
        if self.long_value.iter().any(|known| option.eq_ignore_ascii_case(known)) {
            return OptionMeaning::TakesNext;
        }
        let mut letters = option.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default().chars();
        while let Some(letter) = letters.next() {
            match letter {
                _ if self.code.contains(letter) => return OptionMeaning::Code,
                _ if self.value.contains(letter) && letters.as_str().is_empty() => return OptionMeaning::TakesNext,
                _ if self.value.contains(letter) || self.attached.contains(letter) => break,
                _ => {}
            }
        }
        OptionMeaning::Alone
    }
}

enum OptionMeaning {
    Code,
    TakesNext,
    Alone,
}

/// The script in an interpreter's arguments: the first one that is no option, nor the value of one.
#[must_use]
pub fn script_argument(arguments: &[String]) -> Option<&str> {
    let interpreter = interpreter_name(arguments.first()?);
    let options = InterpreterOptions::of(&interpreter);
    let is_option = match interpreter.as_str() {
        "cmd" | "wscript" | "cscript" => |argument: &str| argument.starts_with('/'),
        _ => |argument: &str| argument.starts_with('-'),
    };
    let mut rest = arguments.iter().skip(1).map(String::as_str);
    let mut may_be_word = !options.words.is_empty();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            return rest.next();
        }
        if argument == "-" || interpreter == "cmd" && argument.to_ascii_lowercase().starts_with("/c") {
            return None;
        }
        if !is_option(argument) {
            if may_be_word && options.words.contains(&argument) {
                may_be_word = false;
                continue;
            }
            return Some(argument);
        }
        match options.read(argument) {
            OptionMeaning::Code => return None,
            OptionMeaning::TakesNext => drop(rest.next()),
            OptionMeaning::Alone => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_the_first_argument_that_is_no_option() {
        for (arguments, expected) in [
            ("node|/x/cli.js|-p|hi", Some("/x/cli.js")),
            ("node|--max-old-space-size=4096|--require|/x/hook.js|/x/cli.js", Some("/x/cli.js")),
            ("node|--import|tsx|cli.ts", Some("cli.ts")),
            ("node|-e|claude", None),
            ("node", None),
            ("node|-", None),
            ("node|--|cli.js", Some("cli.js")),
            ("python3|-u|x.py|claude", Some("x.py")),
            ("python3|-W|ignore|x.py", Some("x.py")),
            ("python3|-m|aider", None),
            ("python3|-c|import os|/x/cli.js", None),
            ("bun|run|x.ts", Some("x.ts")),
            ("/usr/bin/deno|run|--allow-net|x.ts", Some("x.ts")),
            ("node|run", Some("run")),
            ("sh|-ec|claude", None),
            ("bash|./x.sh", Some("./x.sh")),
            // the same letter has a value for one interpreter, and none for another
            ("python3|-I|x.py|claude", Some("x.py")),
            ("python3|-O|x.py|claude", Some("x.py")),
            ("python3.12|-sP|x.py", Some("x.py")),
            ("python3|-Wignore|x.py", Some("x.py")),
            ("python3|-sW|ignore|x.py", Some("x.py")),
            ("python3|-Bc|import os|x.py", None),
            ("bash|-e|x.sh|claude", Some("x.sh")),
            ("-sh|-eux|x.sh", Some("x.sh")),
            ("bash|-eo|pipefail|x.sh", Some("x.sh")),
            ("bash|-p|x.sh", Some("x.sh")),
            ("node|-c|x.js|claude", Some("x.js")),
            ("node|-pe|1", None),
            ("node|--eval=1|x.js", None),
            ("node|--title|claude|x.js", Some("x.js")),
            ("perl|-Ilib|-MFile::Spec|x.pl", Some("x.pl")),
            ("perl|-lane|print|x.pl", None),
            ("ruby|-rjson|-w|x.rb", Some("x.rb")),
            ("java|-cp|a.jar|-jar|b.jar", Some("b.jar")),
            ("pwsh.exe|-NoProfile|-ExecutionPolicy|Bypass|-File|x.ps1", Some("x.ps1")),
            ("pwsh|-Command|x", None),
            ("cmd.exe|/d|/s|/c|x.cmd", None),
        ] {
            let arguments: Vec<String> = arguments.split('|').map(str::to_owned).collect();
            assert_eq!(script_argument(&arguments), expected, "{arguments:?}");
        }
        for (executable, expected) in [
            ("/usr/bin/python3.12", true),
            ("/usr/bin/node", true),
            ("/usr/bin/node-22", true),
            ("/bin/bash", true),
            (r"C:\Program Files\nodejs\node.exe", true),
            ("/usr/bin/nodemon", false),
            ("/usr/bin/claude", false),
        ] {
            assert_eq!(is_interpreter(executable), expected, "{executable}");
        }
    }
}
