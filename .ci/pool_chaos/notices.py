"""What NOTIFY costs with many listeners, for .ci/pool-figures: pgbench notifies, idle connections listen.

Needs no lessor: it measures the engine, on this machine.
"""

import os
import re
import subprocess
import time

CLIENTS = 4


def listeners(postgres, count):
    """Connections that listen and are idle; psql takes up what has come once a second."""
    command = [os.path.join(postgres.programs, "psql"), *postgres.address(), "-X", "-q", "-A", "-t"]
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD": postgres.password}
    found = []
    for _ in range(count):
        one = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        one.stdin.write(b"LISTEN lessor;\nSELECT 1 \\watch 1\n")
        one.stdin.flush()
        found.append(one)
    while int(postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'pool'")) < count + 1:
        time.sleep(0.1)
    time.sleep(1)
    return found


def rate(postgres, statement, seconds, clients=CLIENTS):
    """How often pgbench gets the statement done in a second."""
    script = os.path.join(postgres.directory, "script")
    postgres.write(script, statement + ";\n")
    arguments = ["-n", "-f", script, "-c", str(clients), "-T", str(int(seconds)), *postgres.address()[:-2], "pool"]
    output = postgres.run("pgbench", *arguments)
    return float(re.search(r"tps = ([0-9.]+)", output)[1])


def measure(postgres, seconds):
    """Yields (name, value): of a statement, and of notices with 0, 10 and 100 listeners."""
    yield "statements/s of the server (SELECT 1, 4 clients)", f"{rate(postgres, 'SELECT 1', seconds):.0f}"
    postgres.sql("CREATE TABLE counts AS SELECT id, 0::bigint AS number FROM generate_series(0, 999) AS id")
    postgres.sql("ALTER TABLE counts ADD PRIMARY KEY (id)")
    update = "UPDATE counts SET number = number + 1 WHERE id = "
    yield "commits/s on one row, each with its fsync", f"{rate(postgres, update + '0', seconds):.0f}"
    many = rate(postgres, update + "(random() * 999)::int", seconds, 32)
    yield "commits/s of 32 clients on 1000 rows, which share fsyncs", f"{many:.0f}"
    # a transaction that notifies holds a lock of the whole database until its commit is on disk: they take turns
    told = f"WITH done AS ({update}(random() * 999)::int RETURNING id) SELECT pg_notify('lessor', id::text) FROM done"
    yield "the same, if each also notifies", f"{rate(postgres, told, seconds, 32):.0f}"
    # as seats are given back and wanted: the lock is held for a moment only
    unflushed = told.replace("SELECT pg_notify", "SELECT set_config('synchronous_commit', 'off', true), pg_notify")
    yield "the same, if none waits for its fsync", f"{rate(postgres, unflushed, seconds, 32):.0f}"
    for count in (0, 10, 100):
        idle = listeners(postgres, count)
        try:
            notices = rate(postgres, "SELECT pg_notify('lessor', random()::text)", seconds)
        finally:
            for one in idle:
                one.kill()
                one.wait()
        yield f"notices/s with {count} listeners", f"{notices:.0f}, that is {notices * count:.0f} deliveries/s"
