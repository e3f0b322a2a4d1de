"""What .ci/guests checks. Prints a line for each check, with what was measured; exits with 1 if one fails."""

import atexit
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

from guests_world import (
    ACCOUNTS, AGENT, AGENTS, BOXED, CANARY, CHILDREN, CONTAINER_UID, FAILED, GUEST_USER, HOST_USER, PYTHON,
    Sshd, Upstream, User, WORK, call, check, children_named, clean_up, end, granted, guest_rows,
    http_request, kill, top_shows, until,
)


def main():
    os.makedirs(f"{WORK}/bin")
    shutil.copy(os.environ["LESSOR"], f"{WORK}/bin/lessor")
    os.chmod(f"{WORK}/bin/lessor", 0o755)
    open(f"{WORK}/agent.py", "w").write(AGENT)
    os.chmod(f"{WORK}/agent.py", 0o644)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, guest = User(HOST_USER), User(GUEST_USER)
    sshd = Sshd(host, guest)
    base = f"http://127.0.0.1:{server.server_port}"
    for key, value in [("providers.anthropic.base_url", base), ("leases.overflow", "wait"), ("selection.reuse_window", "0s")]:
        host.lessor("config", "set", key, value)
    for number in range(ACCOUNTS):
        host.lessor("account", "add", "anthropic", "--api-key-stdin", "--label", f"a{number}", input=f"{CANARY}-{number:04}-{'x' * 80}\n")
    words = ["join", f"{HOST_USER}@127.0.0.1", "--program", f"{WORK}/bin/lessor"]
    for option in sshd.options():
        words += ["--ssh-option", option]
    begun = time.monotonic()
    joined = guest.lessor(*words)
    check("join", "its accounts are used here" in joined.stdout, f"{joined.stdout.strip()} ({time.monotonic() - begun:.1f} s)")

    # 16 agents on each side, distinct accounts over both
    acquire = {"provider": "anthropic", "model": "claude-sonnet-4-5", "wait_ms": 20000}
    ours = [host.agent(acquire) for _ in range(AGENTS)]
    theirs = [guest.agent(acquire) for _ in range(AGENTS)]
    leases = [granted(child)["result"] for child in ours + theirs]
    accounts = [lease["account"]["id"] for lease in leases]
    check("16 agents on each side have distinct accounts", len(set(accounts)) == 2 * AGENTS, len(set(accounts)))
    check("the guest's agents got credentials", all(CANARY in lease["credential"]["secret"] for lease in leases))
    check("the host lists the guest's leases with its name", len(guest_rows(host)) == AGENTS)
    own = guest.json("leases")
    check("the guest lists its own leases only", len(own) == AGENTS and {row["fence"] for row in own} == {lease["fence"] for lease in leases[AGENTS:]})
    status = host.json("status")
    check("status of the host names the guest", [of["state"] for of in status["guests"]] == ["up"], status["guests"])
    status = guest.json("status")
    check("status of the guest names the host", (status["host"] or {}).get("state") == "up", status["host"])
    text = guest.lessor("status").stdout
    check("status for people names it, too", f"accounts of {HOST_USER}@127.0.0.1" in text)

    # a killed remote agent frees its account
    check("top of the host names the guest", top_shows(host, f"{GUEST_USER}@"))
    check("top of the guest names the host", top_shows(guest, f"{HOST_USER}@127.0.0.1"))
    spare = [host.agent(acquire) for _ in range(ACCOUNTS - 2 * AGENTS)]
    spare_leases = [granted(child)["result"] for child in spare]
    times = []
    for _ in range(8):
        waiter = host.agent(acquire)
        until(lambda: len(host.json("status")["queue"]) == 1, 10, "a request waits")
        victim = theirs.pop()
        killed = time.monotonic()
        victim.kill()
        answer = granted(waiter)
        times.append((answer["at"] - killed) * 1000)
        end(waiter)
        victim.wait()
        theirs.insert(0, guest.agent(acquire))
        granted(theirs[0])
    check("a killed remote agent frees its account within 250 ms", max(times) <= 250,
          f"median {sorted(times)[len(times) // 2]:.0f} ms, longest {max(times):.0f} ms of {len(times)}")

    # the gateway, with the key of a lease of a run
    for child in spare:
        end(child)
    script = (
        "import json,os,urllib.request\n"
        "url = os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages'\n"
        "key = os.environ.get('ANTHROPIC_API_KEY') or os.environ.get('ANTHROPIC_AUTH_TOKEN')\n"
        "print(json.dumps([os.environ['ANTHROPIC_BASE_URL'], key]), flush=True)\n"
        "r = urllib.request.Request(url, b'{}', {'x-api-key': key, 'content-type': 'application/json'})\n"
        "print(urllib.request.urlopen(r, timeout=60).status, flush=True)\n"
        "import sys; sys.stdin.read()\n"
    )
    open(f"{WORK}/run.py", "w").write(script)
    runner = subprocess.Popen([f"{WORK}/bin/lessor", "run", "-p", "anthropic", "--", PYTHON, f"{WORK}/run.py"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **guest.options())
    CHILDREN.append(runner)
    base_url, key = json.loads(runner.stdout.readline())
    check("run: a request by the guest's gateway is served", runner.stdout.readline().strip() == "200", base_url)
    check("the guest's gateway is its own", base_url.split("/")[2] != host.json("status")["gateway"]["url"].split("/")[2])
    address = base_url.split("/")[2]
    token = guest.lessor("token", "anthropic", below=True).stdout.strip()
    check("token", token.startswith(CANARY))
    variables = guest.lessor("env", "anthropic", fails=True, below=True)
    check("env", "ANTHROPIC_BASE_URL" in variables.stdout, variables.stderr.strip()[:200])
    fences = {row["fence"] for row in guest_rows(host)}

    # the link is stopped, then cut, for 5 s
    for how in ("stopped", "cut"):
        before = {row["fence"] for row in guest_rows(host)}
        if how == "stopped":
            stopped = children_named("sshd")
            for pid in stopped:
                kill(pid, signal.SIGSTOP)
        else:
            sshd.cut()
            until(lambda: guest.json("status")["host"]["state"] == "down", 10, "the guest notices the cut")
        began = time.monotonic()
        result = {}
        thread = threading.Thread(target=lambda: result.update(answer=http_request(address, key, 60)))
        thread.start()
        time.sleep(max(0, 5 - (time.monotonic() - began)))
        waited = "answer" not in result
        if how == "stopped":
            for pid in stopped:
                kill(pid, signal.SIGCONT)
        else:
            sshd.start()
        thread.join(60)
        took = time.monotonic() - began
        check(f"link {how} for 5 s: a gateway request waits and is served", waited and result.get("answer", (0,))[0] == 200, f"{took:.1f} s, {result.get('answer')}")
        until(lambda: guest.json("status")["host"]["state"] == "up", 20, "the link is back")
        after = {row["fence"] for row in guest_rows(host)}
        check(f"link {how} for 5 s: no lease has ended", after == before, f"{len(after)} leases")

    # the owner's daemon is killed
    pid = host.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    for child in ours:
        end(child)
    began = time.monotonic()
    until(lambda: guest.json("status")["host"]["state"] == "up" and host.daemon_pid() != pid, 30, "the link is back after the daemon was killed")
    took = time.monotonic() - began
    after = {row["fence"] for row in guest_rows(host)}
    check("owner's daemon killed: the guest's leases go on", after == before, f"{len(after)} leases, back after {took:.1f} s")
    check("owner's daemon killed: the gateway serves the guest", http_request(address, key, 60)[0] == 200)
    victim = theirs.pop()
    end(victim)
    until(lambda: len(guest_rows(host)) == len(after) - 1, 5, "an agent that is killed afterwards frees its account")

    # the link is cut for 60 s
    sshd.cut()
    began = time.monotonic()
    until(lambda: not guest_rows(host), 45, "the host ends the leases of a lost guest")
    took = time.monotonic() - began
    check("link cut for 60 s: the host has ended the leases after the grace of 30 s", 25 <= took <= 40, f"{took:.1f} s")
    answer = http_request(address, key, 60)
    check("link cut for 60 s: a gateway request fails with a clear reason", answer[0] == 503 and "the link to the host is down" in answer[1], answer[1][:160])
    refused = guest.lessor("acquire", "anthropic", "--ttl", "1m", "--wait", "0s", fails=True)
    check("link cut for 60 s: a lease is refused with a clear reason", refused.returncode == 3 and "the link to the host is down" in refused.stderr, refused.stderr.strip()[:160])
    time.sleep(max(0, 60 - (time.monotonic() - began)))
    sshd.start()
    until(lambda: guest.json("status")["host"]["state"] == "up", 20, "the link is back")
    check("link cut for 60 s: the leases do not come back", not guest_rows(host))
    child = guest.agent(acquire)
    granted(child)
    check("link cut for 60 s: there are leases again", len(guest_rows(host)) == 1)
    end(child)
    end(runner)
    for child in theirs:
        end(child)
    until(lambda: not host.json("leases"), 10, "no lease is held when all agents have ended")
    check("no lease is held for ever", not host.json("leases"))

    # history
    past = host.json("history", "--leases", "--since", "1h")
    named = [row for row in past.get("leases") or past.get("rows") or [] if GUEST_USER in json.dumps(row)]
    check("the host's history names the guest", len(named) >= AGENTS, len(named))
    past = guest.json("history", "--leases", "--since", "1h")
    rows = past.get("leases") or past.get("rows") or []
    check("the guest's history has its own leases only", rows and all(GUEST_USER in json.dumps(row) for row in rows), len(rows))

    check("the guest's history names the host", past.get("guest_of") == f"{HOST_USER}@127.0.0.1", past.get("guest_of"))
    # in a note beside the table
    text = guest.lessor("history", "--leases", "--since", "1h").stderr
    check("the guest's history for people names it, too", f"{HOST_USER}@127.0.0.1" in text)
    text = host.lessor("history", "--leases", "--since", "1h").stdout
    check("the host's history for people names the guest", f"{GUEST_USER}@" in text)

    # nothing but the listed calls is answered
    link = "0123456789abcdef"
    greeting = {"link": link, "name": "x@y", "version": "0", "host": "h", "grace_ms": 1000, "only": None, "max_leases": None, "role": "link", "addresses": {}}
    unknown = call(host.socket, "nothing", {}, host.options())
    methods = re.search(r"methods: (.*)", unknown["error"]["data"]["hint"]).group(1).split(", ")
    samples = {"lease.acquire": {"provider": "anthropic"}, "lease.token": {"provider": "anthropic", "bind": {"pid": 1}}, "forecast": {"provider": "anthropic"},
               "lease.renew": {"lease": "x"}, "lease.release": {"lease": "x"}, "lease.resume": {"lease": "x"}, "lease.credential": {"lease": "x"}, "lease.report": {"lease": "x", "ok": True}}
    served = set()
    for method in methods:
        sample = samples.get(method)
        if sample is None:
            sample = json.load(open(f"tests/golden/call-{method}.json"))["params"]
        answer = call(host.socket, method, sample, host.options(), greeting)
        if (answer.get("error") or {}).get("data", {}).get("kind") != "not_allowed":
            served.add(method)
    allowed = {"hello", "lease.acquire", "lease.token", "lease.renew", "lease.release", "lease.resume", "lease.credential", "lease.report", "lease.list", "lease.move",
               "account.list", "status", "forecast", "explain", "events.subscribe", "history.query", "gateway.key", "guest.holders"}
    check("a guest gets no other call answered", served <= allowed, sorted(served - allowed))
    check("the calls for guests are answered", {"lease.list", "status", "forecast", "account.list", "events.subscribe", "history.query"} <= served, len(served))
    answer = call(host.socket, "lease.acquire", {"provider": "anthropic", "bind": {"pid": host.daemon_pid()}}, host.options(), greeting)
    check("a process id that a guest names is not looked up", "error" in answer, answer.get("error", {}).get("message"))

    # a container: another user id in a namespace of its own, by a socket of its own
    share = f"{WORK}/share"
    os.makedirs(share)
    os.chown(share, host.uid, host.gid)
    host.lessor("share", "--uid", str(CONTAINER_UID), "--socket", f"{share}/lessor.sock", "--only", ",".join(BOXED), "--max-leases", str(AGENTS), "--name", "box")
    path = f"{share}/lessor.sock"
    until(lambda: os.path.exists(path), 10, "the share's socket")
    namespace = {"user": CONTAINER_UID, "group": CONTAINER_UID, "cwd": "/", "env": {"PATH": "/usr/bin:/bin"}}

    def contained(params):
        child = subprocess.Popen(["unshare", "--user", PYTHON, f"{WORK}/agent.py", path, json.dumps(params)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, extra_groups=[], **namespace)
        CHILDREN.append(child)
        return child

    def is_bound(params):
        child = contained(params)
        lease = granted(child)["result"]
        held = any(row["fence"] == lease["fence"] for row in host.json("leases"))
        killed = time.monotonic()
        child.kill()
        freed = until(lambda: all(row["fence"] != lease["fence"] for row in host.json("leases")), 5, "it is freed")
        child.wait()
        return held and freed is True, lease, (time.monotonic() - killed) * 1000

    # lessor itself in the container, where the socket belongs to a user that does not exist there
    command = {"LESSOR_SOCKET": path, "LESSOR_HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    inside = lambda *words: subprocess.run(["unshare", "--user", f"{WORK}/bin/lessor", *words], capture_output=True, text=True, timeout=60,
                                           extra_groups=[], **(namespace | {"env": command}))
    token = inside("token", "anthropic")
    check("container: lessor token prints a key", token.returncode == 0 and token.stdout.strip() != "", token.stderr.strip())
    refused = inside("account", "disable", BOXED[0])
    check("container: lessor changes no account there, and says why", refused.returncode != 0 and ("another user" in refused.stderr or "not for guests" in refused.stderr),
          refused.stderr.strip())
    holds, lease, took = is_bound({"provider": "anthropic", "bind": {"pid": host.daemon_pid()}})
    check("container: a lease is bound to the peer's process, not to the pid that it names", holds, f"freed within {took:.0f} ms")
    holds, lease, _ = is_bound({"provider": "anthropic", "bind": "ttl", "ttl_ms": 600000})
    check("container: the same with a time", holds)
    # 16 agents in the container, beside 16 on each of the other sides
    others = [host.agent({**acquire, "exclude": BOXED}) for _ in range(AGENTS)]
    others += [guest.agent({**acquire, "exclude": BOXED}) for _ in range(AGENTS)]
    elsewhere = {granted(child)["result"]["account"]["label"] for child in others}
    boxed = [contained(acquire) for _ in range(AGENTS)]
    leases = [granted(child)["result"] for child in boxed]
    labels = {lease["account"]["label"] for lease in leases}
    check("container: 16 agents have distinct accounts of its policy", len(labels) == AGENTS and labels <= set(BOXED), len(labels))
    check("container: none of them is one of the 32 on the other sides", len(elsewhere) == 2 * AGENTS and not labels & elsewhere, len(labels | elsewhere))
    answer = json.loads(contained({**acquire, "wait_ms": 0}).stdout.readline())
    check("container: no more leases than its policy has", answer.get("error", {}).get("data", {}).get("kind") == "no_capacity", answer.get("error", {}).get("message"))
    answer = json.loads(contained({**acquire, "only": [f"a{ACCOUNTS - 1}"], "wait_ms": 0}).stdout.readline())
    check("container: an account outside its policy is refused", "error" in answer, answer.get("error", {}).get("message"))
    seen = call(path, "lease.list", {}, {"extra_groups": [], **namespace}).get("result", [])
    check("container: it sees its own leases only", len(seen) == AGENTS, len(seen))
    times = []
    for child, lease in list(zip(boxed, leases))[:8]:
        waiter = host.agent({**acquire, "account": lease["account"]["id"]})
        until(lambda: len(host.json("status")["queue"]) == 1, 10, "a request waits")
        killed = time.monotonic()
        child.kill()
        times.append((granted(waiter)["at"] - killed) * 1000)
        child.wait()
        end(waiter)
    check("container: a killed agent frees its account within 250 ms", max(times) <= 250,
          f"median {sorted(times)[len(times) // 2]:.0f} ms, longest {max(times):.0f} ms of {len(times)}")

    # another policy, while its clients are connected
    def boxed_now():
        return [row for row in host.json("leases") if (row.get("holder") or {}).get("program", "").startswith("box:")]

    words = ["share", "--uid", str(CONTAINER_UID), "--socket", f"{share}/lessor.sock", "--name", "box"]
    host.lessor(*words, "--only", ",".join(BOXED), "--max-leases", "4")
    until(lambda: len(boxed_now()) == 4, 10, "fewer leases are left when the policy has fewer")
    kept = sorted(row["fence"] for row in boxed_now())
    check("container: of its leases the oldest stay when its policy allows fewer", kept == sorted(lease["fence"] for lease in leases[8:])[:4], kept)
    left = boxed_now()[0]["account"]["label"]
    host.lessor(*words, "--only", left, "--max-leases", "4")
    until(lambda: [row["account"]["label"] for row in boxed_now()] == [left], 10, "leases on accounts that are no longer in the policy have ended")
    check("container: a policy that changes holds at once", [row["account"]["label"] for row in boxed_now()] == [left], left)
    for child in others:
        end(child)
    answer = call(path, "account.export", {"secrets": True}, {"extra_groups": [], **namespace})
    check("container: export is refused", answer.get("error", {}).get("data", {}).get("kind") == "not_allowed")
    answer = call(path, "status", {}, guest.options())
    check("container: another user is not served", answer == {}, answer)
    names = [of["name"] for of in host.json("status")["guests"]]
    check("status of the host names the container", "box" in names, names)
    for child in boxed:
        end(child)
    host.lessor("share", "remove", "box")
    until(lambda: not os.path.exists(path), 10, "the socket of a removed share is gone")

    # no credential on the guest's disk
    found = subprocess.run(["grep", "-rlaF", CANARY, guest.home], capture_output=True, text=True).stdout.split()
    check("no credential on the guest's disk", not found, found)
    found = subprocess.run(["grep", "-rlaF", CANARY, host.home], capture_output=True, text=True).stdout.split()
    check("the host's credentials are sealed, too", not found, found)
    left = guest.lessor("leave").stdout
    check("leave", "uses its own accounts" in left, left.strip().splitlines()[0])
    check("after leave the guest has its own accounts", guest.json("account", "list") == [])


if __name__ == "__main__":
    atexit.register(clean_up)
    main()
    print(f"{len(FAILED)} checks failed: {', '.join(FAILED)}" if FAILED else "all checks hold")
    sys.exit(1 if FAILED else 0)
