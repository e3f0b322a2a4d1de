"""The ledger of .ci/pool-chaos with facts that are made up: it must find what is broken, and nothing else."""

from ledger import SLACK, Ledger

LEARNT = "rate_limit_exceeded"


def grant(ledger, host, lease, fence, at, account="a", token=None, bind="connection", kind="hold"):
    fact = {"host": host, "what": "granted", "at": at, "lease": lease, "fence": fence, "account": account}
    ledger.saw({**fact, "agent": f"{host}.0", "kind": kind, "token": token, "bind": bind})


def end(ledger, host, lease, at, why="released"):
    ledger.saw({"host": host, "what": "ended", "at": at, "lease": lease, "why": why})


def ask(ledger, host, lease, at, account="a"):
    entry = {"host": host, "path": "/v1/messages", "arrived": at, "sent": at, "ended": at + 0.1, "account": account}
    ledger.served({**entry, "lease": lease, "agent": f"{host}.0"})


def found(ledger, *beginnings, now=100.0):
    """The ledger finds exactly one thing for each of the beginnings."""
    texts = [text for _, text in ledger.judge(now)]
    matched = [[text for text in texts if text.startswith(beginning)] for beginning in beginnings]
    if len(texts) != len(beginnings) or any(len(match) != 1 for match in matched):
        raise SystemExit(f"the ledger should find {list(beginnings)}, and finds {texts}")


def sequence(ledger):
    """One after the other on two hosts: nothing is wrong with that."""
    grant(ledger, 0, "l1", 1, 1.0)
    end(ledger, 0, "l1", 2.0)
    grant(ledger, 1, "l2", 2, 2.001)
    ask(ledger, 1, "l2", 2.5)
    end(ledger, 1, "l2", 3.0)


def test_leases():
    ledger = Ledger(2)
    sequence(ledger)
    found(ledger)
    ledger = Ledger(2)
    grant(ledger, 0, "l1", 1, 1.0)
    grant(ledger, 1, "l2", 2, 1.5)
    end(ledger, 0, "l1", 1.6)
    found(ledger, "over the ceiling")
    ledger = Ledger(2)
    sequence(ledger)
    grant(ledger, 0, "l3", 2, 5.0)
    found(ledger, "the fence fell")
    # a lease that was taken over while its host was stopped
    for token, expected in ((None, []), ("t", ["over the ceiling"])):
        ledger = Ledger(2)
        ledger.token_ends = {"t": ("a", 50.0)}
        grant(ledger, 0, "l1", 1, 1.0, token=token)
        ledger.begin(0, "stopped daemon", 2.0)
        grant(ledger, 1, "l2", 2, 10.0)
        end(ledger, 1, "l2", 11.0)
        ledger.over(0, "stopped daemon", 12.0)
        end(ledger, 0, "l1", 12.0 + SLACK / 2, "lease.revoked")
        found(ledger, *expected)
    # its holder goes on too long after that
    ledger = Ledger(2)
    grant(ledger, 0, "l1", 1, 1.0)
    ledger.begin(0, "stopped", 2.0)
    ledger.over(0, "stopped", 12.0)
    grant(ledger, 1, "l2", 2, 10.0)
    end(ledger, 0, "l1", 20.0, "lease.revoked")
    found(ledger, "over the ceiling")


def test_requests():
    ledger = Ledger(2)
    sequence(ledger)
    ask(ledger, 0, "l1", 2.2)
    found(
        ledger,
        "a request on a with lease 1 of agent 0.0 (hold), sent",
        "a request on a with lease 1 of agent 0.0 (hold) while",
    )
    ledger = Ledger(2)
    sequence(ledger)
    ask(ledger, 0, None, 2.4)  # one of the gateway's own leases
    found(ledger, "over the ceiling")
    ledger = Ledger(2)
    sequence(ledger)
    ask(ledger, 1, "l2", 2.4, account="b")
    found(ledger, "a request on b with lease 2")


def test_losses():
    for kind, begin, over, expected in (
        ("dead", 1.0, 2.0, False),
        ("no link", 1.0, 9.0, False),
        ("dead", 3.0, 4.0, True),
    ):
        ledger = Ledger(2)
        first = {"host": 0, "path": "", "token": "t", "account": "a", "arrived": 0.95, "answered": 1.01}
        second = {**first, "host": 1, "arrived": 8.0, "reuse": True, "refused": "used twice", "first": first}
        ledger.begin(0, kind, begin)
        ledger.over(0, kind, over)
        ledger.served(first)
        ledger.served(second)
        if [avoidable for _, _, avoidable, _ in ledger.losses(10.0)] != [expected]:
            raise SystemExit(f"a loss after {kind} is judged wrongly: {ledger.losses(10.0)}")


def test_limits():
    ledger = Ledger(3)
    ledger.saw({"host": 0, "what": "limit", "at": 1.0, "account": "a", "wait": 4})
    ledger.saw({"host": 1, "what": "account.limited", "at": 1.02, "account": "a", "reason": LEARNT})
    seen, missing = ledger.propagation(lambda *_: True)
    if len(seen) != 1 or abs(seen[0] - 0.02) > 1e-6 or len(missing) != 1:
        raise SystemExit(f"the way of a limit is judged wrongly: {seen} {missing}")


def test_401s():
    for why, hindered, expected in (
        ("the token of a had ended 1.00 s before", False, False),
        ("the token of a had ended 1.00 s before", True, True),
        ("the login of a is revoked", False, True),
    ):
        ledger = Ledger(2)
        if hindered:
            ledger.begin(0, "no link", 4.0)
        entry = {"host": 0, "path": "/v1/messages", "arrived": 5.0, "sent": 5.0, "ended": 5.1, "account": None}
        ledger.served({**entry, "lease": None, "agent": "0.4", "why": why})
        answer = {"host": 0, "what": "answer", "at": 5.2, "agent": "0.4", "status": 401, "sent": 5.0}
        ledger.saw({**answer, "direct": False})
        if [has_reason for _, _, has_reason in ledger.visible_401s()] != [expected]:
            raise SystemExit(f"a visible 401 is judged wrongly: {ledger.visible_401s()}")


def test_refreshes():
    for gap, is_skewed, expected in ((14.0, False, 0), (6.0, False, 1), (6.0, True, 0)):
        ledger = Ledger(2)
        for number, at in enumerate((1.0, 20.0, 20.0 + gap)):
            entry = {"host": number % 2, "path": "", "account": "a", "arrived": at, "answered": at}
            ledger.served({**entry, "token": f"refresh.a.0.{number}"})
        if is_skewed:
            ledger.begin(1, "skewed", 21.0)
        if len(ledger.early_refreshes(30.0)) != expected:
            raise SystemExit(f"refreshes {gap} s apart are judged wrongly: {ledger.early_refreshes(30.0)}")


def test_ledger():
    for test in (test_leases, test_requests, test_losses, test_limits, test_401s, test_refreshes):
        test()
    print("the ledger finds what is broken, and nothing else")
