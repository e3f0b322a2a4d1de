"""The ledger of .ci/pool-chaos: what agents and the provider saw, and whether it keeps the promises. Outside of lessor.

A lease *lives* from the answer that granted it until its holder cannot use it any more:

- the holder released it (the start of that call), saw `lease.revoked`, or saw its connection cut;
- a holder that has the credential in its hand can use it while it runs itself, at most until the access token ends;
- a holder without the credential uses it through the daemon, so it cannot while the daemon is killed or stopped, nor
  after a restart before the daemon has its seats back, which its next grant shows.

So the time in which a host was stopped or dead is cut out of its leases, with `SLACK` after it, until its agents have
read what their daemon tells them. Requests are judged without that: each must find its account free of other leases.
"""

import bisect
import collections
import threading

SLACK = 0.5  # seconds after a stop of a host, in which what was already sent may still arrive
LIMIT_BOUND = 6.0  # seconds within which each connected host must show a limit
MIN_LIFE = 1.5  # seconds that a token that is handed out lives at least: a little less than the hosts' refresh.min_life
NOTICE = 0.1  # seconds until an agent has read that its lease was revoked or that its connection is cut


class Lease:
    def __init__(self, fact):
        self.host, self.id, self.fence, self.account = fact["host"], fact["lease"], fact["fence"], fact["account"]
        self.agent, self.kind, self.bind, self.token = fact["agent"], fact["kind"], fact["bind"], fact["token"]
        self.begin, self.end, self.why = fact["at"], None, None

    def name(self):
        return f"lease {self.fence} of agent {self.agent} ({self.kind})"


class Ledger:
    """Facts come from many threads; the judgement is made at the end of each round, over all of them."""

    def __init__(self, hosts, is_strict=False):
        self.lock = threading.Lock()
        self.hosts = hosts
        self.is_strict = is_strict  # a refresh ends the tokens before it
        self.leases, self.open = {}, {}
        self.requests, self.refreshes, self.polls = [], [], collections.Counter()
        self.refused, self.answers = collections.Counter(), collections.Counter()
        self.outages = [[] for _ in range(hosts)]  # [kind, begin, end or None]; dead, stopped, stopped daemon, no link
        self.limits, self.limit_events, self.connected = [], [], [[] for _ in range(hosts)]
        self.unauthorized, self.rejected = [], []  # answers with 401 that agents saw, and all that the provider sent
        self.notes = []
        self.used = [[] for _ in range(hosts)]  # when each host began to use an account
        self.granted = [[] for _ in range(hosts)]
        self.token_ends = {}

    # what happened

    def saw(self, fact):
        """A line of a host's agents."""
        with self.lock:
            what, at, host = fact["what"], fact["at"], fact["host"]
            if what == "granted":
                lease = Lease(fact)
                self.leases[(host, lease.id)] = self.open[(host, lease.id)] = lease
                bisect.insort(self.used[host], at)
                bisect.insort(self.granted[host], at)
            elif what == "ended":
                lease = self.open.pop((host, fact["lease"]), None)
                if lease:
                    lease.end, lease.why = at, fact["why"]
            elif what == "refused":
                self.refused[fact["kind"]] += 1
            elif what == "answer":
                self.answers[fact["status"]] += 1
                if fact["status"] == 401:
                    self.unauthorized.append(fact)
            elif what == "limit":
                self.limits.append(fact)
            elif what == "account.limited" and fact["reason"] == "rate_limit_exceeded":
                self.limit_events.append(fact)
            elif what == "connected":
                self.connected[host].append(at)
            elif what == "broke":
                self.notes.append(f"agents of host {host}: {fact['why']}")

    def served(self, entry):
        """A request that reached the provider."""
        with self.lock:
            if "token" in entry:
                self.refreshes.append(entry)
            elif entry["path"].endswith("/usage"):
                self.polls[(entry["host"], entry.get("account"))] += 1
            elif entry["path"].endswith("/messages") and not entry.get("account"):
                self.rejected.append(entry)
            elif entry["path"].endswith("/messages"):
                self.requests.append(entry)
                bisect.insort(self.used[entry["host"]], entry["arrived"])

    def begin(self, host, kind, at):
        with self.lock:
            self.outages[host].append([kind, at, None])

    def over(self, host, kind, at):
        with self.lock:
            for outage in self.outages[host]:
                if outage[0] == kind and outage[2] is None:
                    outage[2] = at

    # what it means

    def alive(self, lease, now):
        """The times in which the lease's holder could use it, as a list of (begin, end)."""
        end = now if lease.end is None else lease.end
        if lease.why in ("cut", "lease.revoked", "lease.ended", "unknown"):
            end -= NOTICE
        has_token = lease.token is not None
        if has_token:
            end = min(end, self.token_ends.get(lease.token, (None, end))[1])
        spans = [(lease.begin, end)]
        for kind, begin, over in self.outages[lease.host]:
            over = now if over is None else over
            if kind == "dead" and lease.bind == "connection":
                if lease.begin < begin:
                    spans = [(a, min(b, begin)) for a, b in spans]
            elif kind == "dead" and not has_token:
                # restored, but of no use before the daemon has its term back: it is cut, or its daemon grants again
                again = self.grants_again(lease.host, over, now) + SLACK
                spans = [part for span in spans for part in without(span, begin, again)]
            elif kind == "stopped" or kind in ("dead", "stopped daemon") and not has_token:
                spans = [part for span in spans for part in without(span, begin, over + SLACK)]
        return [(a, b) for a, b in spans if b > a]

    def grants_again(self, host, since, now):
        place = bisect.bisect(self.granted[host], since)
        return self.granted[host][place] if place < len(self.granted[host]) else now

    def judge(self, now):
        """Every broken promise about leases, as sentences in the order of time: a list of (time, sentence)."""
        with self.lock:
            leases, requests = list(self.leases.values()), list(self.requests)
        spans = collections.defaultdict(list)
        for lease in leases:
            spans[lease.account] += [(a, b, lease) for a, b in self.alive(lease, now)]
        found = []
        for entry in requests:
            if self.lease_of(entry) is None and entry["agent"]:
                spans[entry["account"]].append((entry["arrived"], entry["ended"], None))
        for account, list_ in spans.items():
            list_.sort(key=lambda span: span[:2])
            found += [(b, f"over the ceiling: {text}") for b, text in overlaps(account, list_)]
            found += falling(account, list_)
        found += self.uses(requests, spans)
        return sorted(found)

    def lease_of(self, entry):
        """The lease of a request, or None if the gateway took one for it: it does if an account refuses a request."""
        lease = self.leases.get((entry["host"], entry["lease"]))
        is_moved = lease is not None and lease.kind == "lease-gateway" and lease.account != entry["account"]
        return None if is_moved else lease

    def uses(self, requests, spans):
        """Requests with a lease that had ended, or on an account that another lease had."""
        found = []
        begins = {account: [span[0] for span in list_] for account, list_ in spans.items()}
        longest = {account: max((b - a for a, b, _ in list_), default=0) for account, list_ in spans.items()}
        for entry in requests:
            at, account = entry["arrived"], entry["account"]
            lease = self.lease_of(entry)
            if lease is None:
                continue
            if lease.end is not None and entry["sent"] > lease.end:
                late = f"{entry['sent'] - lease.end:.3f} s after its end ({lease.why})"
                found.append((at, f"a request on {account} with {lease.name()}, sent {late}"))
            if lease.account != account:
                found.append((at, f"a request on {account} with {lease.name()} of account {lease.account}"))
            first = bisect.bisect_left(begins.get(account, []), at - longest.get(account, 0))
            for a, b, other in spans.get(account, [])[first:]:
                if a >= at:
                    break
                if b > at and other is not None and other is not lease:
                    found.append((at, f"a request on {account} with {lease.name()} while {other.name()} lived"))
        return found

    def visible_401s(self):
        """Each answer with status 401 that an agent got: (time, sentence, whether it had a reason)."""
        with self.lock:
            unauthorized, rejected, leases = list(self.unauthorized), list(self.rejected), list(self.leases.values())
        found = []
        for answer in unauthorized:
            agent, sent = answer["agent"], answer["sent"]
            # the gateway may have tried several times
            tries = [entry for entry in rejected if (entry["agent"], entry["sent"]) == (agent, sent)]
            why = "; ".join(entry["why"] for entry in tries) or "the provider has seen no such request"
            if answer["direct"]:
                is_own_fault = self.is_own_fault(leases, tries)
                found.append((sent, f"agent {agent} with the token in its hand: {why}", is_own_fault))
            else:
                is_lost = bool(tries) and "revoked" in tries[-1]["why"]
                has_reason = is_lost or self.has_no_new_token(answer, tries)
                found.append((sent, f"agent {agent} through the gateway: {why}", has_reason))
        return found

    def has_no_new_token(self, answer, tries):
        """The host could not get another token: it, or the host that got the newest one, was hindered."""
        at, name = answer["at"], tries[-1]["why"].split(" of ")[-1].split()[0] if tries else None
        if not self.was_reachable(answer["host"], answer["sent"] - 3, at):
            return True
        of_login = [one for one in self.refreshes if one["account"] == name and "refused" not in one]
        newest = [one for one in of_login if one["arrived"] < at]
        return bool(newest) and not self.was_reachable(newest[-1]["host"], newest[-1]["arrived"] - 1, at)

    def is_own_fault(self, leases, tries):
        """An agent that keeps a token beyond its end; it had enough life left when it was handed out."""
        ids = {(entry["host"], entry["lease"]) for entry in tries}
        for lease in leases:
            if (lease.host, lease.id) in ids:
                end = self.token_ends.get(lease.token, (None, 0))[1]
                return lease.begin < end - (-SLACK if self.is_strict else MIN_LIFE) or "revoked" in tries[-1]["why"]
        return False

    def early_refreshes(self, life):
        """Refreshes of a login soon after another one, without a reason: they are due at half of a token's life."""
        with self.lock:
            refreshes = [entry for entry in self.refreshes if "refused" not in entry]
            rejected, outages = list(self.rejected), [outage for of_host in self.outages for outage in of_host]
        last, found = {}, []
        for entry in sorted(refreshes, key=lambda entry: entry["arrived"]):
            at, name = entry["arrived"], entry["account"]
            before, last[name] = last.get(name), entry
            if before is None or at - before["arrived"] > 0.45 * life:
                continue
            # a host whose clock is wrong thinks that the token ends soon; a rejected token is replaced
            is_skewed = any(
                kind == "skewed" and a < at and (b is None or b + 3 > before["arrived"]) for kind, a, b in outages
            )
            why = [f"{one['why']} " for one in rejected if before["arrived"] < one["ended"] < at]
            is_rejected = any(f" {name} " in one for one in why)
            # a token of which its whole life is not known is refreshed at once: the first of a login
            is_first = before["token"].endswith(".0")
            if not (is_skewed or is_rejected or is_first):
                hosts = f"by host {entry['host']}, {at - before['arrived']:.1f} s after host {before['host']}"
                found.append((at, f"{name} was refreshed {hosts}"))
        return found

    def losses(self, now):
        """For each second use of a refresh token: (time, login, whether it was avoidable, the reason)."""
        with self.lock:
            reused = [entry for entry in self.refreshes if entry.get("reuse")]
        return [(entry["arrived"], entry["account"], *self.excuse(entry, now)) for entry in reused]

    def excuse(self, entry, now):
        first = entry.get("first")
        if first is None:
            return True, "an old token was sent after a newer one was known"
        begin, answered = first["arrived"], first["answered"] or now
        for kind, a, b in self.outages[first["host"]]:
            b = now if b is None else b
            if kind in ("dead", "stopped", "stopped daemon") and a < answered + 0.1 and b > begin:
                return False, f"host {first['host']} was {kind} while its answer was under way"
            if kind in ("no link", "no database") and a < answered + 0.1 and b > entry["arrived"] - 0.1:
                return False, f"host {first['host']} had the answer and no link to the database"
        between = entry["arrived"] - answered
        return True, f"host {entry['host']} used the token {between:.2f} s after host {first['host']} had its answer"

    def propagation(self, hosts_up):
        """Seconds from each reported limit until each other host showed it; `hosts_up(host, begin, end)` filters."""
        seen, missing = [], []
        with self.lock:
            limits, events = list(self.limits), list(self.limit_events)
        for limit in limits:
            at, account = limit["at"], limit["account"]
            for host in range(self.hosts):
                if host == limit["host"]:
                    continue
                took = way(limit, host, events)
                end = at + min(took, LIMIT_BOUND)
                if not hosts_up(host, at, end) or not hosts_up(limit["host"], at, end):
                    continue
                if took <= LIMIT_BOUND:
                    seen.append(took)
                else:
                    missing.append((at, f"host {host} did not show the limit of {account} from host {limit['host']}"))
        return seen, missing

    def is_known(self, limit):
        """Whether all hosts have shown the limit."""
        with self.lock:
            events = list(self.limit_events)
        return all(way(limit, host, events) <= LIMIT_BOUND for host in range(self.hosts))

    def against_limits(self):
        """How many leases a host granted on an account after it had shown that the account is limited."""
        with self.lock:
            limits, events, leases = list(self.limits), list(self.limit_events), list(self.leases.values())
        count = 0
        for limit in limits:
            end = limit["at"] + limit["wait"] - SLACK
            for event in events:
                if event["account"] == limit["account"] and limit["at"] <= event["at"] < end:
                    known, host = event["at"] + NOTICE, event["host"]
                    count += sum(
                        lease.host == host and lease.account == limit["account"] and known < lease.begin < end
                        for lease in leases
                    )
        return count

    def was_up(self, host, begin, end):
        """Whether nothing hindered the host in that time."""
        with self.lock:
            return all(a > end or (b is not None and b + 1 < begin) for _, a, b in self.outages[host])

    def was_reachable(self, host, begin, end):
        """The same, but a wrong clock is no excuse."""
        with self.lock:
            outages = [outage for outage in self.outages[host] if outage[0] != "skewed"]
        return all(a > end or (b is not None and b + 1 < begin) for _, a, b in outages)

    def first_grant(self, host, since):
        """The time of the host's first use of an account that began after `since`, or None."""
        with self.lock:
            place = bisect.bisect(self.used[host], since)
            return self.used[host][place] if place < len(self.used[host]) else None


def way(limit, host, events):
    """Seconds from the report of the limit until the host showed it; infinite if it never did."""
    shown = [event["at"] for event in events if event["host"] == host and event["account"] == limit["account"]]
    return min((at - limit["at"] for at in shown if at >= limit["at"]), default=float("inf"))


def without(span, begin, end):
    """The span without that part."""
    a, b = span
    return [(x, y) for x, y in ((a, min(b, begin)), (max(a, end), b)) if y > x]


def overlaps(account, spans):
    """Two of the sorted spans at once: each pair once, with a sentence."""
    last = None
    for span in spans:
        a, b, lease = span
        if last is not None and last[1] > a and (lease is None or lease is not last[2]):
            who = [one.name() if one else "a request of the gateway" for one in (last[2], lease)]
            yield a, f"{account}: {who[1]} beside {who[0]} for {min(b, last[1]) - a:.3f} s"
        if last is None or b > last[1]:
            last = span


def falling(account, spans):
    """Leases of the account in the order of their grants, whose fence is not above the one before."""
    found, highest, seen = [], -1, set()
    for begin, _, lease in spans:
        if lease is None or lease in seen:
            continue
        if lease.fence <= highest:
            found.append((begin, f"the fence fell on {account}: {lease.name()} after {highest}"))
        highest = max(highest, lease.fence)
        seen.add(lease)
    return found
