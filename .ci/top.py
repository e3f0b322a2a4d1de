"""Drives `lessor top` in tmux: see .ci/top."""

import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PROGRAM = sys.argv[1]
ROOT = tempfile.TemporaryDirectory(prefix="lessor-top-")
HOME = pathlib.Path(ROOT.name)
TMUX = ["tmux", "-S", str(HOME / "tmux"), "-f", "/dev/null"]
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("LESSOR_") and key not in ("TMUX", "NO_COLOR")},
    "LESSOR_HOME": str(HOME / "home"),
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm-256color",
}
# of a core: idle, and with 1 000 events a second
MOST_IDLE = 0.01
MOST_BUSY = 0.35
# what the screens looked like, for a person
SHOTS = pathlib.Path("target/top")
passed = 0


def lessor(*arguments, text=None, fails=False):
    done = subprocess.run([PROGRAM, *arguments], env=ENVIRONMENT, input=text, capture_output=True, text=True, timeout=60)
    if not fails and done.returncode != 0:
        raise AssertionError(f"lessor {arguments}: {done.stdout}{done.stderr}")
    return done


def tmux(*arguments):
    return subprocess.run([*TMUX, *arguments], env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout


def screen():
    return tmux("capture-pane", "-p", "-t", "top")


def eventually(what, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}\n{screen()}")
        time.sleep(0.05)


def shows(*texts, seconds=20):
    for text in texts:
        eventually(f"the screen shows {text!r}", lambda: text in screen(), seconds)


def hides(text):
    eventually(f"the screen does not show {text!r}", lambda: text not in screen())


def keys(*names):
    tmux("send-keys", "-t", "top", *names)


def typed(command):
    """Types a command into the shell."""
    tmux("send-keys", "-t", "top", "-l", command)
    keys("Enter")


def click(text, button=0):
    """Clicks the first place that has this text."""
    for row, line in enumerate(whole_screen()):
        if text in line:
            return mouse(button, line.index(text) + 1, row)
    raise AssertionError(f"nothing to click: {text!r}\n{screen()}")


def whole_screen():
    """The lines of the screen when it is not being drawn: a part of it may still be at its former place."""

    def same_twice():
        first = screen().splitlines()
        time.sleep(0.05)
        # but for the clock
        return first if screen().splitlines()[1:] == first[1:] else None

    return eventually("the screen is drawn", same_twice)


def mouse(button, column, row):
    press = f"\x1b[<{button};{column + 1};{row + 1}M"
    release = "" if button >= 64 else f"\x1b[<{button};{column + 1};{row + 1}m"
    tmux("send-keys", "-t", "top", "-l", press + release)


def resize(width, height):
    tmux("resize-window", "-t", "top", "-x", str(width), "-y", str(height))


def check(name):
    global passed
    passed += 1
    print(f"ok  {name}", flush=True)


def pid_of_top():
    shell = tmux("list-panes", "-t", "top", "-F", "#{pane_pid}").strip()

    def found():
        children = pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return [int(pid) for pid in children if os.readlink(f"/proc/{pid}/exe") == PROGRAM]

    return eventually("top runs", found)[0]


def processor_time(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_of_a_core(seconds):
    pid = pid_of_top()
    begun, before = time.monotonic(), processor_time(pid)
    time.sleep(seconds)
    return (processor_time(pid) - before) / (time.monotonic() - begun)


def resident(pid):
    """KiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


class Daemon:
    """A connection to the daemon, in JSON lines."""

    def __init__(self):
        lock = json.loads(next((HOME / "home").rglob("daemon.lock")).read_text())
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(lock["socket"])
        self.lines = self.socket.makefile("rw", encoding="utf-8", newline="\n")

    def call(self, method, **parameters):
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        self.lines.write(json.dumps(call) + "\n")
        self.lines.flush()
        answer = json.loads(self.lines.readline())
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]


def load(stopped, counted):
    """Grants and releases leases: with three others, 1 000 events a second."""
    daemon, done, begun = Daemon(), 0, time.monotonic()
    while not stopped.is_set():
        lease = daemon.call("lease.acquire", provider="openai", label="load")
        daemon.call("lease.release", lease=lease["lease"])
        done += 2
        time.sleep(max(0, begun + done / 250 - time.monotonic()))
    counted.append(done / (time.monotonic() - begun))


def keep(name):
    """Keeps the screen in both sizes, and checks that nothing leaves it."""
    for width, height in [(200, 50), (80, 24)]:
        resize(width, height)
        # the clock is at the right end of the first line
        eventually("it is drawn in that size", lambda: re.search(r" \d\d:\d\d:\d\d$", screen().splitlines()[0].ljust(1)) and len(screen().splitlines()[0]) == width - 1)
        lines = screen().splitlines()
        assert all(len(line) <= width for line in lines), screen()
        (SHOTS / f"{name}-{width}x{height}.txt").write_text(tmux("capture-pane", "-p", "-e", "-t", "top"))


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers requests with one token; a key of a limited account gets 429."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        limited = "limited" in self.headers.get("authorization", "")
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        error = {"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 3600}}
        body = json.dumps(error if limited else {"id": "r", "object": "response", "output": [], "usage": usage}).encode()
        self.send_response(429 if limited else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def percent(share):
    rounded = round(share * 100)
    return "< 1 %" if 0 < share and rounded < 1 else f"{min(rounded, 99) if share < 1 else rounded} %"


def send(count):
    daemon = Daemon()
    url = daemon.call("status")["gateway"]["url"]
    key = daemon.call("gateway.key", label="top")["key"]
    for _ in range(count):
        body = json.dumps({"model": "gpt-5", "input": "hi"}).encode()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/openai/v1/responses", body, headers)).read()


def states_without_and_with_one_account():
    start()
    shows("no accounts yet, so no agent can start", "Accounts 0")
    keep("empty")
    lessor("account", "add", "openai", "--api-key-stdin", "--label", "account-01", text=f"sk-test-{1:030}\n")
    shows("Accounts 1", "can start now on account-01")
    keep("one")
    keys("q")
    shell_is_as_before()
    check("it shows no account and one, and follows when the first is added")


def numbers():
    """Each number of the screen against the answers of the socket."""
    daemon, shares = Daemon(), {"account-02": (0.004, 0.41), "account-03": (0.996, 0.7), "account-04": (1, 0.2)}
    for label, (short, week) in shares.items():
        lease = daemon.call("lease.acquire", provider="openai", account=label, wait_ms=0)
        windows = {"primary": {"utilization": short}, "secondary": {"utilization": week}}
        daemon.call("lease.report", lease=lease["lease"], ok=True, usage=windows)
        daemon.call("lease.release", lease=lease["lease"])
    held = daemon.call("lease.acquire", provider="openai", account="account-05", wait_ms=0, label="counted")
    send(7)
    resize(200, 50)
    keys("R")

    def differs():
        status, accounts, leases = (daemon.call(method) for method in ("status", "account.list", "lease.list"))
        hour = daemon.call("history.query", of="requests", by="minute", limit=0, since=int(time.time() * 1000) - 3_600_000)
        lines, head = screen().splitlines(), screen()
        count = lambda number, name: f"{number} {name}{'' if number == 1 else 's'}"
        words = [count(len(leases), "lease"), f"{len(status['queue'])} waiting", f"Accounts {len(accounts)}"]
        words += [f"{hour['totals']['requests']} requests in 1 h", f"{hour['totals']['limited']} met a limit"]
        words += [f"{number} {state.replace('_', ' ')}" for state, number in status["accounts"].items() if number and state != "total"]
        missing = [text for text in words if text not in head]
        for account in accounts:
            line = next((line for line in lines if f" {account['label']} " in line and "/1" in line), "")
            used = [percent(window["utilization"]) for window in account["usage"] if window["utilization"] and not window["rate"]]
            parts = [account["state"].replace("_", " "), f"{account['leases']}/{account['capacity']}", *used]
            missing += [f"{account['label']}: {part}" for part in parts if part not in line]
        return missing

    try:
        eventually("the numbers are those of the socket", lambda: not differs())
    except AssertionError:
        raise AssertionError(f"{differs()}\n{screen()}") from None
    keep("mixed")
    daemon.call("lease.release", lease=held["lease"])
    shows("Leases 1")
    check("states, leases, shares and the sums of the hour are those of the socket")


def everything_limited():
    daemon = Daemon()
    error = {"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 3600}}
    accounts = daemon.call("account.list")
    for account in accounts:
        lease = daemon.call("lease.acquire", provider="openai", account=account["id"], wait_ms=0)
        daemon.call("lease.report", lease=lease["lease"], status=429, headers={}, body=json.dumps(error))
        daemon.call("lease.release", lease=lease["lease"])
    keys("R")
    shows("openai: free at", "in 60 min")
    keep("limited")
    for account in accounts:
        daemon.call("account.clear_limits", account=account["id"])
    shows("openai: can start now")
    check("when everything is limited, it says when something is free")


def start(command=f"'{PROGRAM}' top"):
    typed(command)


def shell_is_as_before():
    """The shell echoes what is typed, on its own screen, without the mouse and with a cursor."""
    eventually("the shell is back", lambda: "$" in screen() and "Accounts" not in screen())
    state = "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"
    eventually("the terminal is restored", lambda: tmux("display-message", "-p", "-t", "top", state).strip() == "0 0 1")
    typed("stty -a; echo end-of-stty")
    eventually("the end of stty", lambda: "\nend-of-stty" in screen())
    words = screen().replace(";", " ").split()
    assert {"icanon", "echo", "isig", "icrnl", "opost"} <= set(words), screen()
    typed("clear")
    hides("end-of-stty")


def refuses():
    for arguments, words in ((["top"], "lessor status"), (["top", "--json"], "prints no JSON document")):
        done = lessor(*arguments, fails=True)
        assert done.returncode == 2 and words in done.stderr, (arguments, done)
    check("without a terminal, and with --json, it is refused")


def lists(holder):
    start()
    shows("Accounts 12", "can start now", "Leases 1", str(holder.pid))
    check("80×24 shows accounts, leases and whether an agent can start")
    for number, title in enumerate(["Accounts", "Leases", "Queue", "Requests", "Events"], 1):
        keys(str(number))
        shows(f"{number} {title}")
    keys("1")
    keys("/")
    tmux("send-keys", "-t", "top", "-l", "account-11")
    shows("1 of 12", "filter: account-11")
    keys("Escape")
    shows("Accounts 12")
    check("keys change lists and the filter")
    keys("?")
    shows("Help", "read everything")
    keys("Escape")
    hides("read everything")
    keys("Enter")
    shows("last used")
    keys("Escape")
    hides("last used")
    check("help and details open and close")
    for width, height in [(200, 50), (120, 40), (100, 20), (60, 16)]:
        resize(width, height)
        shows("Accounts 12", "Leases 1")
        lines = screen().splitlines()
        assert len(lines) == height and all(len(line) <= width for line in lines), screen()
    resize(40, 10)
    shows("too small: 40×10", "lessor status")
    resize(80, 24)
    shows("Accounts 12")
    check("it follows the size of the terminal")


def mouse_works():
    click("account-03")
    click("account-03")
    shows("openai (key", "account-03")
    keys("Escape")
    # an escape sequence right behind it would be read as one with Alt
    hides("openai (key")
    click("STATE")
    eventually("sorted the other way", lambda: "STATE▲" in screen())
    click("STATE")
    click("5 Events")
    shows("has account-")
    click("2 Leases")
    shows("HOLDER")
    mouse(65, 10, 6)
    mouse(64, 10, 6)
    check("the mouse selects, opens, sorts and scrolls")


def actions():
    keys("1", "Home")
    keys("e")
    shows("Disable account-01", "y yes", "n no")
    keys("Enter")
    shows("Disable account-01")
    keys("n")
    hides("Disable account-01")
    keys("e")
    shows("Disable account-01")
    click("y yes")
    shows("1 disabled")
    accounts = json.loads(lessor("account", "list", "--json").stdout)
    assert [info["label"] for info in accounts if info["state"] == "disabled"] == ["account-01"], accounts
    keys("End")
    keys("e")
    hides("1 disabled")
    check("an account is disabled after a question, and enabled again")
    account_is_moved()
    keys("2", "x")
    shows("Release the lease of")
    keys("y")
    shows("released:", "Leases 0")
    assert leases() == [], leases()
    check("a lease is moved to the account that was chosen, and released after a question")


def leases():
    return [row["account"]["label"] for row in Daemon().call("lease.list")]


def account_is_moved():
    """The lease of a gateway key moves at once; the account is chosen in the box."""
    daemon = Daemon()
    (row,) = daemon.call("lease.list")
    daemon.call("gateway.key", lease=row["lease"])
    (before,) = leases()
    keys("2", "m")
    shows("the best other account")
    keys("Escape")
    hides("the best other account")
    assert leases() == [before], "Escape moves nothing"
    keys("m")
    shows("the best other account")
    keys("Down")
    chosen = eventually("an account is chosen", chosen_account)
    assert chosen != before, screen()
    keys("Enter")
    shows(f"{before} → {chosen}")
    assert leases() == [chosen], (leases(), chosen)
    # at once: the moved lease has another id
    keys("m")
    shows("the best other account")
    keys("Enter")
    eventually("the lease has moved again", lambda: leases() != [chosen])
    shows(f"{chosen} → {leases()[0]}")


def chosen_account():
    """The account that the choice for a lease is at."""
    found = re.search(r"│ ▸ \S+ +(account-\d+)", screen())
    return found and found[1]


def daemon_ends():
    lessor("restart")
    shows("Accounts 12", "can start now")
    hides("NO DAEMON")
    check("it recovers after a restart")
    lessor("stop", "--yes")
    shows("NO DAEMON since", "stale", "account-05")
    keep("gone")
    time.sleep(3)
    assert lessor("status", "--no-start", fails=True).returncode == 3, "top has started a daemon"
    lessor("ping")
    hides("NO DAEMON")
    shows("can start now")
    check("without a daemon it keeps the last values, says so, starts none, and connects to the next one")


def ends():
    pid = pid_of_top()
    keys("C-z")
    shell_is_as_before()
    typed("fg")
    shows("Accounts 12")
    os.kill(pid, signal.SIGTSTP)
    shell_is_as_before()
    typed("fg")
    shows("Accounts 12")
    check("it is suspended and continued, by a key and by a signal")
    keys("q")
    shell_is_as_before()
    for number, code in [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]:
        start()
        shows("Accounts 12")
        os.kill(pid_of_top(), number)
        hides("Accounts 12")
        typed("echo ended: $?")
        shows(f"ended: {code}")
        typed("clear")
        shell_is_as_before()
    start()
    shows("Accounts 12")
    keys("C-c")
    shell_is_as_before()
    check("every end gives the terminal back")


def looks():
    start(f"NO_COLOR=1 LC_ALL=C '{PROGRAM}' top")
    shows("Accounts 12")
    with_colours = tmux("capture-pane", "-p", "-e", "-t", "top")
    codes = [part.split("m")[0] for part in with_colours.split("\x1b[")[1:] if "m" in part]
    colours = [code for code in codes for one in code.split(";") if one.isdigit() and 30 <= int(one) <= 107 and one not in ("39", "49")]
    assert not colours, colours
    shown = screen()
    assert shown.isascii(), [letter for letter in shown if not letter.isascii()]
    keys("q")
    shell_is_as_before()
    check("NO_COLOR has no colours, and a locale without Unicode shows ASCII")


def costs():
    start()
    shows("Accounts 12")
    time.sleep(3)
    idle = share_of_a_core(20)
    print(f"    idle: {idle:.2%} of a core over 20 s")
    stopped, rates = threading.Event(), []
    threads = [threading.Thread(target=load, args=(stopped, rates)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        keys("5")
        shows("python3", "returned", seconds=30)
        before = pid_of_top()
        drawn = HOME / "drawn"
        tmux("pipe-pane", "-t", "top", f"cat > '{drawn}'")
        memory = resident(before)
        busy = share_of_a_core(10)
        tmux("pipe-pane", "-t", "top")
        # each drawing hides the cursor
        frames = drawn.read_bytes().count(b"\x1b[?25l") / 10
        grown = resident(before) - memory
        keep("busy")
        keys("1")
        begun = time.monotonic()
        keys("?")
        shows("read everything")
        delay = time.monotonic() - begun
        keys("Escape")
        hides("read everything")
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert pid_of_top() == before
    print(f"    with {sum(rates):.0f} events a second: {busy:.2%} of a core, {frames:.1f} drawings a second, {grown} KiB more memory; help was open after {delay * 1000:.0f} ms")
    hides("read everything")
    keys("q")
    assert idle <= MOST_IDLE, f"{idle:.2%} of a core when idle"
    assert busy <= MOST_BUSY, f"{busy:.2%} of a core with {sum(rates):.0f} events a second"
    assert 1 <= frames <= 11, f"{frames} drawings a second"
    assert grown < 10_000, f"{grown} KiB more after 10 s"
    check("it costs little")


def main():
    (HOME / "home").mkdir()
    SHOTS.mkdir(parents=True, exist_ok=True)
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{upstream.server_port}"
    config = f'[quota]\npoll = "off"\n[providers.openai]\nbase_url = "{address}"\n'
    (HOME / "home" / "config.toml").write_text(config)
    subprocess.run([*TMUX, "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", "bash --norc"], env=ENVIRONMENT, check=True)
    tmux("set-option", "-g", "status", "off")
    typed("PS1='$ '; ulimit -c 0; clear")
    holder = subprocess.Popen(["sleep", "600"], cwd=HOME)
    try:
        states_without_and_with_one_account()
        for number in range(2, 13):
            lessor("account", "add", "openai", "--api-key-stdin", "--label", f"account-{number:02}", text=f"sk-test-{number:030}\n")
        lessor("acquire", "openai", "--pid", str(holder.pid), "--wait", "0s")
        refuses()
        lists(holder)
        mouse_works()
        numbers()
        everything_limited()
        actions()
        daemon_ends()
        ends()
        looks()
        costs()
    finally:
        holder.kill()
        holder.wait()
        subprocess.run([*TMUX, "kill-server"], env=ENVIRONMENT, check=False)
        lessor("stop", "--yes", fails=True)
    print(f"{passed} passed, 0 failed")


main()
