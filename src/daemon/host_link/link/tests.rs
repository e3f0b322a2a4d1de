use super::*;

fn join(host: &str, program: &str) -> JoinSection {
    JoinSection {
        host: Some(host.to_owned()),
        options: vec!["Port=2222".to_owned()],
        program: program.to_owned(),
        grace: Duration::from_secs(30),
    }
}

fn words(join: &JoinSection, is_needed: bool) -> Vec<String> {
    ssh(join, is_needed).as_std().get_args().map(|word| word.to_string_lossy().into_owned()).collect()
}

#[test]
fn the_command_has_the_users_options_and_quotes_the_program() {
    let words = words(&join("me@laptop", "~/my tools/lessor"), true);
    let at = words.iter().position(|word| word == "--").unwrap();
    assert_eq!(words[at + 1..], ["me@laptop", "~/'my tools/lessor'", "share", "--stdio"]);
    assert_eq!(words[at - 2..at], ["-o", "Port=2222"]);
    assert!(words.contains(&"BatchMode=yes".to_owned()), "it never asks for a password: {words:?}");
}

#[test]
fn a_host_is_never_taken_for_an_option_and_a_program_for_a_command() {
    let words = words(&join("-oProxyCommand=evil", "lessor; evil"), false);
    let at = words.iter().position(|word| word == "--").unwrap();
    assert_eq!(words[at + 1..], ["-oProxyCommand=evil", "'lessor; evil'", "--no-start", "share", "--stdio"]);
}

/// Of a program that takes ssh's place.
#[cfg(unix)]
async fn end_of_program(script: &str, end: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let words = Arc::<Mutex<String>>::default();
    let reading = tokio::spawn(keep_last_line(child.stderr.take().unwrap(), words.clone()));
    end_of(&mut child, reading, &words, end.to_owned()).await
}

#[cfg(unix)]
#[tokio::test]
async fn the_end_of_a_link_says_what_ssh_has_said_last() {
    let refused = "echo first >&2; printf 'Permission denied\\033[2J (publickey).\\n\\n' >&2; exit 255";
    let words = end_of_program(refused, "the connection was closed").await;
    assert!(words.starts_with("Permission denied") && !words.contains('\x1b'), "{words:?}");
    let unknown = end_of_program("exit 127", "the connection was closed").await;
    assert!(unknown.contains("there is no lessor on the host"), "{unknown}");
    // a link that ends in order has its own reason
    assert_eq!(end_of_program("echo a warning >&2; exit 0", "this daemon stops").await, "this daemon stops");
    assert_eq!(
        end_of_program("exec sleep 1000", "the other end does not answer").await,
        "the other end does not answer"
    );
}

#[test]
fn what_is_said_of_holders_is_one_line_and_an_answer_is_asked_for_where_one_is_read() {
    let stated = holders_call(Some(1), GuestHoldersParams { all: true, ..GuestHoldersParams::default() });
    let told = holders_call(None, GuestHoldersParams { ended: vec![7], ..GuestHoldersParams::default() });
    for (call, has_id) in [(&stated, true), (&told, false)] {
        let line = std::str::from_utf8(call).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].is_null(), !has_id, "{line}");
    }
}
