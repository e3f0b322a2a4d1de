"""Runs the commands of README.md and docs/ as a reader would: see .ci/docs.

The fenced blocks `sh`, `bash` and `console` of a page run from top to bottom in one bash, in a home directory of the page's
own, with a provider on this machine and agents that only send one request. A `python` block is run as a program, and a
`toml` block is checked as a configuration file. Comments in the page say what differs:

    <!-- not run: REASON -->     before a block: it is not run; below a heading: nothing under the heading is
    <!-- setup: COMMANDS -->     before a block: run first, and not shown to readers
    <!-- setup each: COMMANDS -->    the same before each command of the block, for commands that are alternatives

Each command must end with status 0; one that follows something (`-f`, `--follow`), or serves until Ctrl-C (`--serve` without
a command), is interrupted after two seconds. The output of a `console` block must be what the command prints on a terminal
of 80 columns: times, spans, numbers of four digits and blanks may differ, and `…` stands for anything, on a line of its own
for any lines.
"""

import argparse
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LANGUAGES = {"sh", "bash", "console", "python", "toml"}
# the longest time of a command, in seconds
PATIENCE = 60
FOLLOWED = 2
TIMED_OUT = 124
AGENTS = ["claude", "codex", "gemini", "agy", "opencode"]
# what the pages name as files of the reader
FILES = {
    "key.txt": "sk-key-of-the-docs-0\n",
    "key-1.txt": "sk-key-of-the-docs-1\n",
    "key-2.txt": "sk-key-of-the-docs-2\n",
    "response.json": '{"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}\n',
    "secret-file": "a-secret\n",
    "other.toml": "[leases]\nper_account = 2\n",
    "job.py": "print('done')\n",
    "orchestrator": "#!/bin/sh\nexec claude -p hi\n",
    "my-orchestrator": "#!/bin/sh\nlessor forecast anthropic >/dev/null\n",
    "fleet.sh": "#!/bin/sh\nclaude -p one & claude -p two & wait\n",
}
SETUP = r"""
set -o pipefail
# accounts of all providers: work, spare, home; openai-work, …
accounts() {
  for label in work spare home; do
    for provider in anthropic openai google; do
      case $provider in anthropic) name=$label ;; *) name=$provider-$label ;; esac
      echo "sk-$provider-$label" | lessor account add $provider --api-key-stdin --label $name || return
    done
  done
}
# limit LABEL AFTER KIND SECONDS: the account of anthropic meets a limit after so many requests
limit() {
  curl -sSf -o /dev/null "$PROVIDER/limits" -d "{\"key\": \"sk-anthropic-$1\", \"after\": $2, \"kind\": \"$3\", \"seconds\": $4}"
}
# what another tool keeps: its samples of tests/samples/import
tool() {
  local from=~/samples/$1 tomorrow=$(($(date +%s) + 86400))
  cp -r "$SAMPLES" ~/samples 2>/dev/null
  find "$from" -type f -exec sed -i "s/@TOMORROW_MS@/${tomorrow}000/; s/@TOMORROW_S@/$tomorrow/;
    s/@TOMORROW@/$(date -u -d @$tomorrow +%FT%TZ)/" {} +
  case $1 in
    claude-code) cp -r "$from" ~/.claude ;;
    codex) mkdir -p ~/.codex && cp "$from/auth.json" ~/.codex/ ;;
    antigravity-auth)
      mkdir -p ~/.config/opencode && cp "$from/v4.json" ~/.config/opencode/antigravity-accounts.json &&
        cp "$from/antigravity.json" ~/.config/opencode/ ;;
    antigravity-manager) cp -r "$from" ~/.antigravity_tools ;;
    anthropic-multi-auth) mkdir -p ~/.config/opencode && cp "$from/v1.json" ~/.config/opencode/anthropic-accounts.json ;;
  esac
}
"""
# stands for every agent: its login writes a token, and anything else sends $REQUESTS requests, or one
AGENT = r"""#!/bin/sh
name=$(basename "$0")
case "$name $*" in
  *--version*) echo "$name 9.9.9"; exit ;;
  *--help*) echo "Commands: auth login"; exit ;;
  claude*login*)
    dir=${CLAUDE_CONFIG_DIR:-$HOME/.claude}; mkdir -p "$dir"
    printf '{"claudeAiOauth":{"accessToken":"sk-ant-oat01-%s","refreshToken":"sk-ant-ort01-%s","expiresAt":%s000,"scopes":["user:inference","user:profile"],"subscriptionType":"max"}}' \
      $$ $$ $(($(date +%s) + 28000)) > "$dir/.credentials.json"
    printf '{"oauthAccount":{"emailAddress":"reader%s@example.org","accountUuid":"%s"}}' $$ $$ > "$dir/.claude.json"
    exit ;;
esac
[ "$name" = claude ] && [ -n "$ANTHROPIC_BASE_URL" ] || exit 0
key=${ANTHROPIC_AUTH_TOKEN:-${ANTHROPIC_API_KEY:-$CLAUDE_CODE_OAUTH_TOKEN}}
for _ in $(seq "${REQUESTS:-1}"); do
  curl -sSf -o /dev/null -H "authorization: Bearer $key" -H 'content-type: application/json' \
    -d '{"model":"claude-sonnet-4-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}' \
    "$ANTHROPIC_BASE_URL/v1/messages"
done
"""


class Provider(http.server.BaseHTTPRequestHandler):
    """Answers every request as the three providers would, as far as the pages need it."""

    protocol_version = "HTTP/1.1"
    # by key: after how many requests, of what kind, for how many seconds
    limits = {}

    def do_GET(self):
        self.answer(200, {"data": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/limits":
            limit = json.loads(body)
            self.limits[limit["key"]] = limit
            return self.answer(200, {})
        key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        limit = self.limits.get(key)
        if limit and limit["after"] == 0:
            headers = {"retry-after": str(limit["seconds"])}
            if limit["kind"] == "quota":
                until = str(int(time.time()) + limit["seconds"])
                unified = "anthropic-ratelimit-unified"
                headers |= {f"{unified}-status": "rejected", f"{unified}-5h-status": "rejected", f"{unified}-5h-reset": until}
            error = {"type": "rate_limit_error", "message": "This request would exceed the limit of your account."}
            return self.answer(429, {"type": "error", "error": error}, headers)
        if limit:
            limit["after"] -= 1
        usage = {"input_tokens": 80, "output_tokens": 20}
        message = {"type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-4-5", "usage": usage}
        self.answer(200, message)

    def answer(self, status, document, headers=None):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Command:
    def __init__(self, page, line, text, expected=None, hidden=False, title=None):
        self.page, self.line, self.text, self.expected, self.hidden = page, line, text, expected, hidden
        self.title = title or text


def read_page(page):
    """The commands of a page, and for each block that is not run `LINE: REASON`."""
    commands, left_out = [], []
    lines = (ROOT / page).read_text().split("\n")
    at, pending, skip_level, below_heading = 0, [], None, False
    while at < len(lines):
        line = lines[at]
        comment = re.match(r"<!-- (not run|setup each|setup): ?(.*)", line)
        heading = re.match(r"(#+) ", line)
        fence = re.match(r"```(\w*)", line)
        begin = at
        if heading:
            level = len(heading[1])
            if skip_level and level <= skip_level[0]:
                skip_level = None
            below_heading, pending, heading_level = True, [], level
        elif comment:
            text = comment[2]
            while "-->" not in text:
                at += 1
                text += "\n" + lines[at]
            text = text.split("-->")[0].strip()
            if not text:
                sys.exit(f"{page}:{begin + 1}: `{comment[1]}` needs words")
            following = next((after for after in lines[at + 1 :] if after.strip()), "")
            if comment[1] == "not run" and not following.startswith("```"):
                if not below_heading:
                    sys.exit(f"{page}:{begin + 1}: `not run` stands before a block or below a heading")
                skip_level = (heading_level, f"{begin + 1}: {text}")
            else:
                pending.append((comment[1], begin + 1, text))
        elif fence:
            block = []
            at += 1
            while not lines[at].startswith("```"):
                block.append(lines[at])
                at += 1
            below_heading = False
            if fence[1] in LANGUAGES:
                reason = next((f"{begin + 1}: {text}" for kind, _, text in pending if kind == "not run"), None)
                reason = reason or (skip_level and skip_level[1])
                if reason:
                    left_out.append(reason)
                else:
                    setup = {kind: split(page, number, "sh", text.split("\n"), True) for kind, number, text in pending}
                    commands += setup.get("setup", [])
                    for command in split(page, begin + 2, fence[1], block):
                        commands += [*setup.get("setup each", []), command]
            pending = []
        elif line.strip() and not line.startswith("<!--"):
            below_heading = False
        at += 1
    return commands, left_out


def split(page, number, language, block, hidden=False):
    """The commands of a block; one may have several lines."""
    if language == "console":
        commands = []
        for offset, line in enumerate(block):
            if line.startswith("$ "):
                commands.append(Command(page, number + offset, line[2:], []))
            elif commands:
                commands[-1].expected.append(line)
        return commands
    if language in ("python", "toml"):
        run = "python3 block" if language == "python" else "lessor config check block"
        lines = "\n".join(block)
        return [Command(page, number, f"cat >block <<'END'\n{lines}\nEND\n{run}", title=f"the {language} block")]
    commands, text, begin = [], "", 0
    for offset, line in enumerate(block):
        begin = begin if text else offset
        text += line + "\n"
        incomplete = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode
        if not incomplete and not text.rstrip().endswith("\\"):
            if re.sub(r"(?m)^\s*#.*", "", text).strip():
                commands.append(Command(page, number + begin, text.rstrip("\n"), hidden=hidden))
            text = ""
    if text:
        sys.exit(f"{page}:{number + begin}: this does not end in its block: {text}")
    return commands


# what differs from run to run, and what stands for it
VARIES = [
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?\d+:\d\d(:\d\d)?", "TIME"),
    (r"\d+(\.\d+)? ?(ms|s|min|h|d)\b", "SPAN"),
    (r"\d{4,}", "NUMBER"),
    (r"█+[▏▎▍▌▋▊▉]?", "BAR"),
    (r"\s+", " "),
]


def normal(line):
    for pattern, instead in VARIES:
        line = re.sub(pattern, instead, line)
    return line.strip()


def fits(expected, actual):
    """Whether the output of a command is what the page shows."""
    pattern = ""
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            parts = [re.escape(normal(part)) for part in line.split("…")]
            pattern += r"[^\n]*".join(parts) + r" ?\n"
    actual = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", actual).rstrip()
    text = "".join(normal(line) + "\n" for line in actual.split("\n"))
    return re.fullmatch(pattern, text) is not None


def environment(home, lessor, provider):
    bin_dir = home / ".bin"
    bin_dir.mkdir()
    wrapper = bin_dir / "lessor"
    wrapper.write_text(
        "#!/bin/sh\n"
        'endless=\n'
        'for word in "$@"; do case $word in -f | --follow) endless=1; break ;; --serve) endless=1 ;; --) endless=; break ;; esac; done\n'
        f'[ -z "$endless" ] || exec timeout -s INT {FOLLOWED} "{lessor}" "$@"\n'
        f'exec "{lessor}" "$@"\n'
    )
    scripts = [wrapper]
    for name in AGENTS:
        scripts.append(bin_dir / name)
        scripts[-1].write_text(AGENT)
    work = home / "work"
    work.mkdir()
    for name, text in FILES.items():
        (work / name).write_text(text)
        scripts += [work / name] if text.startswith("#!") else []
    for script in scripts:
        script.chmod(0o755)
    for name in ("runtime", "tmp", ".config/lessor"):
        (home / name).mkdir(parents=True, mode=0o700)
    providers = "".join(
        f'[providers.{name}]\nbase_url = "{provider}"\nusage_url = "{provider}"\noauth.base_url = "{provider}"\n'
        for name in ("anthropic", "openai", "google")
    )
    (home / ".config/lessor/config.toml").write_text(providers)
    return {
        "HOME": str(home),
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(home / "runtime"),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "80",
        "EDITOR": "true",
        "NO_COLOR": "1",
        "SHELL": "/bin/bash",
        "PROVIDER": provider,
        "REPOSITORY": str(ROOT),
        "SAMPLES": str(ROOT / "tests/samples/import"),
        # no request leaves this machine
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def run_page(page, commands, lessor, provider, verbose):
    """Runs the commands of a page; answers what went wrong."""
    wrong = []
    Provider.limits.clear()
    with tempfile.TemporaryDirectory(prefix="lessor-docs-", ignore_cleanup_errors=True) as directory:
        home = pathlib.Path(directory)
        env = environment(home, lessor, provider)
        (home / "stdin").write_text("typed-by-the-reader\n")
        script = SETUP + f'cd "{home}/work"\n'
        for number, command in enumerate(commands):
            (home / f"command-{number}").write_text(command.text + "\n")
            run = f'eval "$(cat {home}/command-{number})" <{home}/stdin'
            if command.expected is not None:
                run = f'script -qec "stty cols 80; . {home}/command-{number}" /dev/null </dev/null'
            script += f"{run} >{home}/out-{number} 2>&1\n"
            script += f'echo "$?" >{home}/status-{number}\n'
        (home / "script").write_text(script)
        bash = subprocess.Popen(["bash", str(home / "script")], env=env, start_new_session=True)
        for number, command in enumerate(commands):
            status_file, deadline = home / f"status-{number}", time.monotonic() + PATIENCE
            while not (status_file.exists() and status_file.read_text().endswith("\n")):
                if time.monotonic() > deadline or bash.poll() is not None and not status_file.exists():
                    break
                time.sleep(0.01)
            out_file = home / f"out-{number}"
            out = out_file.read_text(errors="replace") if out_file.exists() else ""
            where = f"{page}:{command.line}: {command.title}"
            if not status_file.exists():
                wrong.append(f"{where}\n  did not end in {PATIENCE} s, or ended the shell:\n{out}")
                break
            status = int(status_file.read_text())
            if verbose:
                print(f"--- {where}\n{out}", end="")
            if status not in ((0, TIMED_OUT) if re.search(r" (-f|--follow|--serve)\b", command.text) else (0,)):
                wrong.append(f"{where}\n  ended with status {status}:\n{out}")
            elif command.expected is not None and not fits(command.expected, out):
                wrong.append(f"{where}\n  prints something else than the page shows:\n{out}")
        subprocess.run([lessor, "stop", "--yes"], env=env, capture_output=True, timeout=60)
        try:
            os.killpg(bash.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        bash.wait()
    return wrong


def main():
    arguments = argparse.ArgumentParser(description="Runs the commands of the documentation.")
    arguments.add_argument("pages", nargs="*", help="only these, such as docs/scripting.md")
    arguments.add_argument("--lessor", default=str(ROOT / "target/debug/lessor"))
    arguments.add_argument("--verbose", action="store_true", help="show what each command prints")
    options = arguments.parse_args()
    needed = [name for name in ("bash", "curl", "jq", "script", "timeout") if not shutil.which(name)]
    if needed:
        sys.exit(f"the commands of the documentation need: {', '.join(needed)}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    provider = f"http://127.0.0.1:{server.server_port}"
    pages = options.pages or ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
    wrong, left_out, count = [], [], 0
    for page in pages:
        commands, skipped = read_page(page)
        for reason in dict.fromkeys(skipped):
            blocks = skipped.count(reason)
            left_out.append(f"{page}:{reason}" + (f" ({blocks} blocks)" if blocks > 1 else ""))
        if commands:
            found = run_page(page, commands, os.path.abspath(options.lessor), provider, options.verbose)
            shown = sum(not command.hidden for command in commands)
            count += shown
            print(f"{page}: {shown} commands, {len(found)} wrong", flush=True)
            wrong += found
    print("\nnot run:\n  " + "\n  ".join(left_out or ["nothing"]))
    print("\n".join(["", *wrong]))
    print(f"{count} commands of {len(pages)} pages, {len(wrong)} wrong, {len(left_out)} left out")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
