"""Two throw-away users with daemons, an sshd between them, an upstream, and agents: what .ci/guests checks things with."""

import fcntl
import http.client
import http.server
import json
import os
import pty
import pwd
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

# one that every user can run
PYTHON = "/usr/bin/python3"
PORT = 5722
HOST_USER, GUEST_USER = "lessor-ci-host", "lessor-ci-guest"
CONTAINER_UID = 61234
AGENTS = 16
# two sides hold leases at once, and a container beside them
ACCOUNTS = 3 * AGENTS + 4
# what a container may use
BOXED = [f"a{number}" for number in range(AGENTS + 1)]
CANARY = "sk-ant-api03-CANARY"
WORK = tempfile.mkdtemp(prefix="lessor-guests-")
os.chmod(WORK, 0o755)
FAILED = []
CHILDREN = []

AGENT = r'''
import json, os, socket, sys, time
path, params = sys.argv[1], json.loads(sys.argv[2])
s = socket.socket(socket.AF_UNIX)
s.connect(path)
lines = s.makefile("rw", encoding="utf-8", newline="\n")
lines.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.acquire", "params": params}) + "\n")
lines.flush()
answer = json.loads(lines.readline())
print(json.dumps({"at": time.monotonic(), **answer}), flush=True)
sys.stdin.read()
'''


def check(what, holds, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}{': ' + str(detail) if detail != '' else ''}", flush=True)
    if not holds:
        FAILED.append(what)
    return holds


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


class User:
    """A user with a home, and a daemon in it."""

    def __init__(self, name):
        self.name = name
        subprocess.run(["userdel", "-rf", name], capture_output=True)
        run(["useradd", "-m", "-s", "/bin/sh", "-p", "*", name])
        found = pwd.getpwnam(name)
        self.uid, self.gid, self.home = found.pw_uid, found.pw_gid, found.pw_dir
        self.socket = f"{self.home}/.local/state/lessor/run/lessor.sock"

    def options(self):
        environment = {"HOME": self.home, "USER": self.name, "PATH": f"{WORK}/bin:/usr/bin:/bin", "LESSOR_LOG": "info"}
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "env": environment, "cwd": self.home}

    def lessor(self, *words, input=None, fails=False, below=False):
        # some commands bind their lease to the program of this user that calls them
        caller = [PYTHON, "-c", "import subprocess,sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"] if below else []
        done = subprocess.run(
            [*caller, f"{WORK}/bin/lessor", *words], input=input, capture_output=True, text=True, timeout=90, **self.options()
        )
        if not fails and done.returncode != 0:
            raise RuntimeError(f"{self.name}: lessor {' '.join(words)}: {done.stderr or done.stdout}")
        return done

    def json(self, *words):
        return json.loads(self.lessor(*words, "--json").stdout)

    def agent(self, params, path=None, **options):
        child = subprocess.Popen(
            [PYTHON, f"{WORK}/agent.py", path or self.socket, json.dumps(params)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **{**self.options(), **options},
        )
        CHILDREN.append(child)
        return child

    def daemon_pid(self):
        return json.load(open(f"{self.home}/.local/share/lessor/daemon.lock"))["pid"]


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    keys = []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.keys.append(self.headers.get("x-api-key"))
        body = b'{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Sshd:
    """An sshd that lets the guest in as the host's user."""

    def __init__(self, host, guest):
        os.makedirs("/run/sshd", exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{WORK}/host_key"])
        self.key = f"{guest.home}/link_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key])
        shutil.copy(self.key + ".pub", f"{WORK}/authorized_keys")
        os.chmod(f"{WORK}/authorized_keys", 0o644)
        for name in (self.key, self.key + ".pub"):
            os.chown(name, guest.uid, guest.gid)
        public = open(f"{WORK}/host_key.pub").read().split()
        self.known = f"{guest.home}/known_hosts"
        open(self.known, "w").write(f"[127.0.0.1]:{PORT} {public[0]} {public[1]}\n")
        os.chown(self.known, guest.uid, guest.gid)
        open(f"{WORK}/sshd_config", "w").write(
            f"Port {PORT}\nListenAddress 127.0.0.1\nHostKey {WORK}/host_key\nPidFile {WORK}/sshd.pid\n"
            f"AuthorizedKeysFile {WORK}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"AllowUsers {host.name}\nMaxStartups 100\n"
        )
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", f"{WORK}/sshd_config"],
                                        stderr=open(f"{WORK}/sshd.log", "a"))
        CHILDREN.append(self.process)
        until(lambda: can_connect(PORT), 10, "sshd listens")

    def cut(self):
        """Ends the link, and lets no other one begin."""
        self.process.terminate()
        self.process.wait()
        for pid in children_named("sshd"):
            kill(pid, signal.SIGKILL)

    def options(self):
        return [f"Port={PORT}", f"IdentityFile={self.key}", f"UserKnownHostsFile={self.known}", "IdentitiesOnly=yes"]


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def kill(pid, signal_number):
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        pass


def children_named(name):
    """The sessions of our sshd: they name its user, and nobody else's sshd lets that user in."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
        except OSError:
            continue
        if command.startswith(f"{name}: {HOST_USER}"):
            found.append(int(pid))
    return found


def until(holds, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except (OSError, RuntimeError, ValueError):
            pass
        time.sleep(0.02)
    return check(what, False, f"not within {seconds} s")


def granted(child):
    answer = json.loads(child.stdout.readline())
    if "result" not in answer:
        raise RuntimeError(f"no lease: {answer}")
    return answer


def end(child):
    child.kill()
    child.wait()


def http_request(address, key, timeout):
    connection = http.client.HTTPConnection(address, timeout=timeout)
    connection.request("POST", "/anthropic/v1/messages", b'{"model":"claude-sonnet-4-5","messages":[]}',
                       {"x-api-key": key, "content-type": "application/json", "user-agent": "ci"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def top_shows(user, text, seconds=30):
    """Whether `lessor top` of a user shows a text without spaces on a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    options = user.options()
    options["env"] = {**options["env"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    child = subprocess.Popen([f"{WORK}/bin/lessor", "top"], stdin=theirs, stdout=theirs, stderr=theirs,
                             start_new_session=True, **options)
    CHILDREN.append(child)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + seconds
    while text.encode() not in shown and time.monotonic() < deadline and child.poll() is None:
        if select.select([ours], [], [], 0.2)[0]:
            shown += os.read(ours, 65536)
    os.write(ours, b"q")
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        end(child)
    os.close(ours)
    return text.encode() in shown


def guest_rows(host):
    return [row for row in host.json("leases") if (row.get("holder") or {}).get("program", "").startswith(GUEST_USER)]


def call(path, method, params, user=None, greeting=None):
    """One call, as another process of a user."""
    code = (
        "import json,socket,sys\n"
        "path, greeting, line = sys.argv[1:4]\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(path)\n"
        "if greeting:\n"
        "    g = greeting.encode(); s.sendall(b'LSG\\x01' + len(g).to_bytes(4, 'little') + g)\n"
        "s.sendall(line.encode() + b'\\n')\n"
        "print(s.makefile().readline(), end='')\n"
    )
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    words = [PYTHON, "-c", code, path, json.dumps(greeting) if greeting else "", line]
    return json.loads(subprocess.run(words, capture_output=True, text=True, timeout=60, **(user or {})).stdout or "{}")


def clean_up():
    for child in CHILDREN:
        if child.poll() is None:
            child.kill()
    for user in (HOST_USER, GUEST_USER):
        try:
            uid = pwd.getpwnam(user).pw_uid
        except KeyError:
            continue
        # the daemons of the throw-away users
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{pid}").st_uid == uid:
                    kill(int(pid), signal.SIGKILL)
            except OSError:
                pass
    time.sleep(0.2)
    for user in (HOST_USER, GUEST_USER):
        subprocess.run(["userdel", "-rf", user], capture_output=True)
    if "--keep" not in sys.argv:
        shutil.rmtree(WORK, ignore_errors=True)
