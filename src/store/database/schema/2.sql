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

-- A lease's other names, as JSON: its second quota, and what its model is called there.
ALTER TABLE lease ADD COLUMN names TEXT;

-- When a limit was filed, what showed it, and where the user can do something about it.
ALTER TABLE limits ADD COLUMN since INTEGER;
ALTER TABLE limits ADD COLUMN evidence TEXT;
ALTER TABLE limits ADD COLUMN link TEXT;
