"""The faults of .ci/pool-chaos: which ones, when and for how long is decided by the seed, before the first one."""

import random
import time

# name -> (weight, whether it needs the shared pool)
KINDS = {
    "kill": (4, False),
    "stop": (4, False),
    "stop the daemon": (2, False),
    "crash the database": (2, True),
    "restart the database": (2, True),
    "freeze the link": (4, True),
    "cut the link": (3, True),
    "skew the clock": (3, False),
}
# What the text of the issue calls 1 to 40 seconds, in terms of the time that a seat is valid.
SHORTEST, LONGEST = 1 / 15, 40 / 15


class Fault:
    def __init__(self, kind, host, delay, duration, amount):
        self.kind, self.host, self.delay, self.duration, self.amount = kind, host, delay, duration, amount

    def __str__(self):
        where = "" if "database" in self.kind else f" of host {self.host}"
        amount = f" by {self.amount:+d} s" if self.kind == "skew the clock" else ""
        return f"{self.kind}{where}{amount} for {self.duration:.1f} s"


class Round:
    """One fault or two at once, after a time without any; and a limit that one host learns in it, if any."""

    def __init__(self, calm, faults, limit):
        self.calm, self.faults, self.limit = calm, faults, limit

    def __str__(self):
        return " and ".join(map(str, self.faults))


def plan(rounds, seed, hosts, ttl, pool, clock):
    """The rounds of a run: the same ones for the same arguments."""
    chance = random.Random(f"faults {seed}")
    kinds = {kind: weight for kind, (weight, needs) in KINDS.items() if pool or not needs}
    if not clock:
        kinds.pop("skew the clock")

    def fault():
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        # as many short ones as long ones
        duration = ttl * SHORTEST * (LONGEST / SHORTEST) ** chance.random()
        amount = chance.choice((-1, 1)) * chance.randint(60, 600)
        return Fault(kind, chance.randrange(hosts), chance.uniform(0, ttl / 2), duration, amount)

    planned = []
    for _ in range(rounds):
        faults = [fault() for _ in range(2 if chance.random() < 0.3 else 1)]
        if len(faults) == 2 and clashes(*faults):
            faults.pop()
        limit = None
        if chance.random() < 0.5:
            limit = {
                "do": "limit",
                "seed": chance.random(),
                "wait": chance.randint(8, 15),
                "host": chance.randrange(hosts),
            }
        planned.append(Round(chance.uniform(ttl / 3, ttl), faults, limit))
    return planned


def clashes(one, other):
    """Whether they cannot be in effect at once: they act on the same thing."""
    thing = {"kill": "daemon", "stop": "daemon", "stop the daemon": "daemon"}
    same = thing.get(one.kind, one.kind.split()[-1]) == thing.get(other.kind, other.kind.split()[-1])
    return same and (one.host == other.host or "database" in one.kind)


class Injector:
    """Carries faults out. `world` has hosts, postgres, ledger and set_link(host, mode)."""

    def __init__(self, world):
        self.world = world

    def run(self, round_):
        """Carries out a round; the time when the last fault was over."""
        steps = []
        start = time.monotonic()
        for fault in round_.faults:
            steps.append((start + fault.delay, self.begin, fault))
            steps.append((start + fault.delay + fault.duration, self.end, fault))
        for at, step, fault in sorted(steps, key=lambda step: step[0]):
            time.sleep(max(0.0, at - time.monotonic()))
            step(fault)
        return time.monotonic()

    def begin(self, fault):
        world, now = self.world, time.monotonic()
        host = world.hosts[fault.host]
        if fault.kind == "kill":
            world.ledger.begin(fault.host, "dead", now)
            host.kill()
        elif fault.kind in ("stop", "stop the daemon"):
            whole = fault.kind == "stop"
            world.ledger.begin(fault.host, "stopped" if whole else "stopped daemon", now)
            host.freeze(whole)
        elif fault.kind == "crash the database":
            self.database_away(now)
            world.postgres.stop("immediate")
        elif fault.kind == "restart the database":
            self.database_away(now)
            world.postgres.restart()
            self.database_back()
        elif fault.kind in ("freeze the link", "cut the link"):
            world.ledger.begin(fault.host, "no link", now)
            world.set_link(fault.host, fault.kind.split()[0])
        elif fault.kind == "skew the clock":
            world.ledger.begin(fault.host, "skewed", now)
            host.skew(fault.amount)

    def end(self, fault):
        world = self.world
        host = world.hosts[fault.host]
        if fault.kind == "kill":
            try:
                host.start()
            except RuntimeError as error:
                # the run goes on without it, and starts it again after the round
                world.ledger.notes.append(str(error))
            world.ledger.over(fault.host, "dead", time.monotonic())
        elif fault.kind in ("stop", "stop the daemon"):
            host.thaw()
            world.ledger.over(fault.host, "stopped" if fault.kind == "stop" else "stopped daemon", time.monotonic())
        elif fault.kind == "crash the database":
            world.postgres.start()
            self.database_back()
        elif fault.kind in ("freeze the link", "cut the link"):
            world.set_link(fault.host, "pass")
            world.ledger.over(fault.host, "no link", time.monotonic())
        elif fault.kind == "skew the clock":
            host.skew(0)
            world.ledger.over(fault.host, "skewed", time.monotonic())

    def database_away(self, now):
        for host in range(len(self.world.hosts)):
            self.world.ledger.begin(host, "no database", now)

    def database_back(self):
        now = time.monotonic()
        for host in range(len(self.world.hosts)):
            self.world.ledger.over(host, "no database", now)
