"""What a run of .ci/pool-chaos ends with: the table, and whether a promise was broken."""

import collections
import os
import statistics


def milliseconds(seconds):
    return f"{seconds * 1000:.0f} ms"


def median_and_most(values, unit=milliseconds):
    return f"median {unit(statistics.median(values))}, most {unit(max(values))} ({len(values)})" if values else "none"


def plain_seconds(value):
    return f"{value:.1f} s"


class Report:
    """`broken` gets a sentence for each promise that does not hold."""

    def __init__(self, world, options):
        self.world, self.options = world, options
        self.broken, self.notes = [], []

    def lines(self, now, recoveries, silent):
        ledger = self.world.ledger
        found = ledger.judge(now)
        over = [text for _, text in found if text.startswith("over the ceiling")]
        fell = [text for _, text in found if text.startswith("the fence fell")]
        used = [text for _, text in found if text.startswith("a request on")]
        losses = ledger.losses(now)
        avoidable = [(who, why) for _, who, is_avoidable, why in losses if is_avoidable]
        uses = collections.Counter(
            entry["token"] for entry in ledger.refreshes if "refused" not in entry or entry["reuse"]
        )
        per_login = collections.Counter(entry["account"] for entry in ledger.refreshes if "refused" not in entry)
        grants = collections.Counter(lease.host for lease in ledger.leases.values())
        requests = collections.Counter(entry["host"] for entry in ledger.requests)
        self.broken += over + fell + used + [f"{who} lost its login: {why}" for who, why in avoidable] + silent
        self.broken += ledger.notes
        rows = [
            ("grants, by host", f"{sum(grants.values())}: {by_host(grants, self.options.hosts)}"),
            ("requests at the provider, by host", f"{sum(requests.values())}: {by_host(requests, self.options.hosts)}"),
            ("two leases at once on an account", len(over)),
            ("fences that fell", len(fell)),
            ("requests with an ended lease, or beside another one", len(used)),
            ("refreshes, by login", ", ".join(f"{count}" for _, count in sorted(per_login.items())) or "none"),
            ("refreshes, by login and hour", f"{refreshes_per_hour(self.world, now):.0f}"),
            ("seconds between refreshes of a login", gaps(ledger.refreshes)),
            ("refresh tokens used more than once", sum(1 for count in uses.values() if count > 1)),
            ("logins lost, avoidable ones", f"{len(losses)}, {len(avoidable)}"),
        ]
        seen = ledger.visible_401s()
        without = sum(not ok for _, _, ok in seen)
        rows.append(("answers 401 that agents got, without a reason", f"{len(seen)}, {without}"))
        self.broken += [f"401 at {at - self.world.began:.1f} s: {text}" for at, text, ok in seen if not ok]
        self.notes = [f"401 at {at - self.world.began:.1f} s, with a reason: {text}" for at, text, ok in seen if ok]
        self.notes.sort(key=lambda note: "through the gateway" not in note)
        early = ledger.early_refreshes(self.options.token_life)
        rows.append(("refreshes that came too early", len(early)))
        self.broken += [f"at {at - self.world.began:.1f} s: {text}" for at, text in early]
        rows.append(("limits reported, grants against one", f"{len(ledger.limits)}, {ledger.against_limits()}"))
        if self.options.hosts > 1:
            rows += self.limits(ledger)
        for kind, seconds in sorted(recoveries.items()):
            rows.append((f"first use after: {kind}", median_and_most(seconds, plain_seconds)))
        rows.append(("hosts that did not come back in time", len(silent)))
        rows.append(("usage polls, by host", by_host(polls(ledger), self.options.hosts)))
        rows.append(("refusals", counted(ledger.refused)))
        rows.append(("answers that agents got", counted(ledger.answers)))
        return [f"| {name} | {value} |" for name, value in [("what", "found"), ("---", "---"), *rows]]

    def limits(self, ledger):
        seen, missing = ledger.propagation(ledger.was_up)
        self.broken += [text for _, text in missing]
        # on a machine that does much else, this would be about that
        is_calm = os.getloadavg()[1] < 2 * (os.cpu_count() or 1)
        if is_calm and len(seen) >= 10 and statistics.median(seen) > 0.05:
            self.broken.append(f"the median of a limit's way to other hosts is {milliseconds(statistics.median(seen))}")
        return [
            ("a limit's way to each other host", median_and_most(seen)),
            ("limits that a host did not show", len(missing)),
        ]


def refreshes_per_hour(world, now):
    """Of one login, since the agents began."""
    count = sum("refused" not in entry and entry["arrived"] >= world.began for entry in world.ledger.refreshes)
    return count / len(world.names) / (now - world.began) * 3600


def gaps(refreshes):
    """The times between refreshes of the same login."""
    last, found = {}, []
    for entry in sorted((entry for entry in refreshes if "refused" not in entry), key=lambda entry: entry["arrived"]):
        if entry["account"] in last:
            found.append(entry["arrived"] - last[entry["account"]])
        last[entry["account"]] = entry["arrived"]
    return f"least {min(found):.1f}, median {statistics.median(found):.1f} ({len(found)})" if found else "none"


def polls(ledger):
    counts = collections.Counter()
    for (host, _), count in ledger.polls.items():
        counts[host] += count
    return counts


def by_host(counts, hosts):
    return ", ".join(str(counts[host]) for host in range(hosts))


def counted(counts):
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common()) or "none"
