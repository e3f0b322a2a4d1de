"""A PostgreSQL of Debian's in a throw-away directory, for .ci/pool-chaos and .ci/pool-figures.

It is not that of .ci/postgres: it crashes and restarts in the middle of a run, and counts statements.
"""

import atexit
import glob
import os
import pwd
import shutil
import subprocess

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
max_connections = 300
shared_buffers = 64MB
logging_collector = off
log_min_messages = warning
track_activities = on
"""


def programs():
    """The directory of the newest server's programs; .ci/postgres installs one if there is none."""
    place = "/usr/lib/postgresql/*/bin/initdb"
    if not glob.glob(place):
        installer = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "postgres")
        subprocess.run([installer, "true"], check=True)
    found = sorted(glob.glob(place), key=lambda path: int(path.split("/")[4]))
    return os.path.dirname(found[-1])


class Postgres:
    """The server. Its programs refuse to run as root, so they run as the user postgres then."""

    def __init__(self, directory, port):
        self.programs = programs()
        self.directory, self.data, self.port = directory, os.path.join(directory, "data"), port
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.password_file = os.path.join(directory, "password")
        os.makedirs(directory)
        self.password = "chaos-" + os.urandom(8).hex()
        self.write(self.password_file, self.password + "\n")
        if self.user:
            shutil.chown(directory, self.user.pw_uid, self.user.pw_gid)
        initdb = ["initdb", "-D", self.data, "-U", "owner", "--pwfile", self.password_file, "-A", "scram-sha-256"]
        self.run(*initdb, "-E", "UTF8", "--locale", "C.UTF-8")
        has_statements = bool(glob.glob(os.path.join(self.programs, "../lib/pg_stat_statements.so")))
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as settings:
            settings.write(SETTINGS.format(port=port, directory=directory))
            if has_statements:
                settings.write("shared_preload_libraries = 'pg_stat_statements'\n")
        atexit.register(self.end)
        self.start()
        self.sql("CREATE DATABASE pool", "postgres")
        if has_statements:
            self.sql("CREATE EXTENSION pg_stat_statements")

    def write(self, path, text):
        with open(path, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        if self.user:
            shutil.chown(path, self.user.pw_uid, self.user.pw_gid)

    def run(self, program, *arguments, may_fail=False, text=None):
        who = {} if self.user is None else {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [os.path.join(self.programs, program), *arguments],
            **who,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PGPASSWORD": self.password},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and not may_fail:
            raise SystemExit(f"{program} {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def control(self, *arguments):
        # pg_ctl's output goes to the server's log, because a server that it starts keeps it open
        self.run("pg_ctl", "-D", self.data, "-l", os.path.join(self.directory, "log"), "-s", "-w", *arguments)

    def start(self):
        self.control("start", "-t", "60")

    def stop(self, mode):
        """`immediate` is a crash, `fast` ends all connections, then stops."""
        self.control("stop", "-m", mode)

    def end(self):
        """Also when the harness fails."""
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.run("pg_ctl", "-D", self.data, "-s", "-w", "stop", "-m", "immediate", may_fail=True)

    def restart(self):
        self.control("restart", "-m", "fast", "-t", "60")

    def address(self, database="pool"):
        return ["-h", self.directory, "-p", str(self.port), "-U", "owner", "-d", database]

    def sql(self, text, database="pool"):
        """Runs statements as the superuser; the rows, without headings, columns separated by |."""
        return self.run(
            "psql", *self.address(database), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", text=text
        )

    def url(self, port):
        """For a host that connects to `port`, without the password."""
        return f"postgres://owner@127.0.0.1:{port}/pool"
