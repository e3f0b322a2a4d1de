"""What a shared pool costs its database, by calculation, for .ci/pool-figures.

Nothing here is measured; `load` counts the statements that hosts send, and `breaks` compares them with what was
measured on one machine. Each source is one line, so that a reader can check it against src/shared_pool/.
"""

from dataclasses import dataclass


@dataclass
class Sizes:
    """A fleet, and how busy it is."""

    hosts: int = 100
    accounts: int = 1000
    agents: int = 10_000
    # the settings
    beat_every: float = 5.0  # a quarter of the ttl, at most 5 s
    poll_every: float = 5.0  # news, beneath the notifications
    linger: float = 30.0
    gather: float = 0.02  # notifications within this time cause one reading of news
    # the load: each agent asks its model once in `turn` seconds, and its request takes `busy` seconds
    turn: float = 20.0
    busy: float = 8.0
    run: float = 1800.0  # how long an agent that has a lease of its own keeps it
    runs: float = 0.5  # the part of the agents that have a lease of their own; the others lease for each request
    limits_per_account: float = 1 / 3600  # learnt, per second
    token_life: float = 3600.0
    logins: float = 1.0  # the part of the accounts that are logins
    usage_every: float = 900.0
    # the part of the grants that find no free seat on their host. 0: all hosts have the seats that they need; 1: each
    # grant claims, as with linger = 0, or when hosts take seats from each other all the time
    misses: float = 0.05
    # how many hosts read news because of a seat that is wanted or free: those that hold one of that account, and those
    # whose requests wait. 1: hosts are seldom full; `hosts`: requests wait on all of them
    seat_readers: float = 1.0
    # the part of the claims that find no free seat at first: another host gives one back. 0: there are enough seats
    contested: float = 1.0


@dataclass
class Server:
    """What a server does in a second, as measured by .ci/pool-figures --notices."""

    statements: float
    commits: float  # which may share fsyncs
    notifying: float  # commits that notify and wait for their fsync: these take turns
    unflushed: float  # commits that notify and do not wait for it
    deliveries: float


def grants(sizes):
    """Grants per second of the whole fleet."""
    own = sizes.agents * sizes.runs / sizes.run
    return own + sizes.agents * (1 - sizes.runs) / sizes.turn


def load(sizes):
    """(source, statements per second on the database) for the whole fleet, the biggest first."""
    claims = grants(sizes) * sizes.misses
    # a claim is one statement; its seat is given back by another one
    refreshes = sizes.accounts * sizes.logins / (sizes.token_life / 2)
    limits = sizes.accounts * sizes.limits_per_account
    usage = sizes.accounts / sizes.usage_every
    # a host reads news once for all notices that came within `gather`
    most = sizes.hosts / sizes.gather
    told = notices(sizes)
    readings = {name: rate * (sizes.seat_readers if name == "seats" else sizes.hosts) for name, rate in told.items()}
    sources = [
        ("heartbeats: hosts / beat_every", sizes.hosts / sizes.beat_every),
        ("news, polled: hosts / poll_every", sizes.hosts / sizes.poll_every),
        ("news, after a limit: hosts x limits", min(readings["limits"], most)),
        ("news, after a refresh: hosts x refreshes", min(readings["accounts"], most)),
        ("news, after a seat was wanted or came free: seat_readers x these", min(readings["seats"], most)),
        ("claims: grants x misses, twice if contested", claims * (1 + sizes.contested)),
        ("seats given back: as many", claims),
        ("limits: accounts x limits_per_account", limits),
        ("refreshes: a claim and a result for each", 2 * refreshes),
        ("usage: a duty and a reading for each account", 2 * usage),
    ]
    return sorted(sources, key=lambda source: -source[1])


def notices(sizes):
    """NOTIFYs per second, by their subject.

    Usage causes none: hosts read it when they poll. A claim that finds no free seat causes one, and the return of a seat
    that another host waits for; so where hosts take seats from each other there are two for each grant.
    """
    refreshes = sizes.accounts * sizes.logins / (sizes.token_life / 2)
    limits = sizes.accounts * sizes.limits_per_account
    return {"limits": limits, "accounts": refreshes, "seats": 2 * grants(sizes) * sizes.misses * sizes.contested}


def deliveries(sizes):
    """Every notice is delivered to every connection that listens: a signal to its server process, and a packet."""
    return sizes.hosts * sum(notices(sizes).values())


def commits(sizes):
    """Statements whose commit waits for an fsync, which may serve several: not returns, and claims that find no seat."""
    claims = grants(sizes) * sizes.misses
    changes = sum(rate for source, rate in load(sizes) if not source.startswith("news"))
    return changes - claims * (1 + sizes.contested)


def connections(sizes):
    """One for statements and one that listens, for each host."""
    return 2 * sizes.hosts


def breaks(sizes, measured, max_connections=100, reserved=3):
    """What is used up first: (name, used, available), the fullest first. `measured`: see Server."""
    total = sum(rate for _, rate in load(sizes))
    told = notices(sizes)
    flushed = told["limits"] + told["accounts"]
    checks = [
        ("connections (max_connections)", connections(sizes), max_connections - reserved),
        ("statements per second", total, measured.statements),
        ("commits that wait for an fsync, per second", commits(sizes), measured.commits),
        ("commits that notify and wait for an fsync in turns, per second", flushed, measured.notifying),
        ("commits that notify without an fsync, per second", told["seats"], measured.unflushed),
        # every delivery is a signal to a server process, and a packet
        ("deliveries of notices per second", deliveries(sizes), measured.deliveries),
    ]
    return sorted(checks, key=lambda check: -check[1] / check[2])


def table(sizes, measured):
    lines = [
        f"{sizes.hosts} hosts, {sizes.accounts} accounts, {sizes.agents} agents: {grants(sizes):.0f} grants/s, of which"
        f" {sizes.misses:.0%} claim a seat; {sizes.seat_readers:.0f} host(s) read news because of one",
        "",
        "| source | statements/s |",
        "|---|---|",
    ]
    rates = load(sizes)
    lines += [f"| {source} | {rate:.1f} |" for source, rate in rates]
    total = sum(rate for _, rate in rates)
    lines.append(f"| all, and for each host | {total:.0f}, {total / sizes.hosts:.1f} |")
    lines.append(f"| notices, and deliveries of them | {sum(notices(sizes).values()):.1f}, {deliveries(sizes):.0f} |")
    lines += ["", "| what is used up first | needed | available |", "|---|---|---|"]
    for name, used, available in breaks(sizes, measured):
        lines.append(f"| {name} | {used:.0f} | {available:.0f} |")
    return "\n".join(lines)


def cases():
    """The sizes that the page about many machines shows."""
    yield Sizes(hosts=3, accounts=8, agents=48)
    yield Sizes(hosts=10, accounts=100, agents=1000)
    yield Sizes()
    yield Sizes(misses=1.0)
    yield Sizes(misses=1.0, seat_readers=100.0)
