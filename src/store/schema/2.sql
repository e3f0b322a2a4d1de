-- What import and linked logins need.

-- Every login and key that was ever kept, so that an old copy is known when it is met again. Made with a key that is
-- not in here: of a token they reveal nothing.
CREATE TABLE fingerprint (
    print BLOB PRIMARY KEY,
    account TEXT NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX fingerprint_of ON fingerprint (account, kept_at);

-- Logins that another tool has, too.
CREATE TABLE link (
    account TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    path TEXT NOT NULL,
    item TEXT NOT NULL,
    mode TEXT NOT NULL -- 'link', 'take-over' or 'share'
) STRICT, WITHOUT ROWID;
