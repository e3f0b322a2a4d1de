-- The lasting keys of the gateway. Only a hash of each is kept.

CREATE TABLE gateway_key (
    hash BLOB PRIMARY KEY, -- SHA-256 of the key's text
    client INTEGER NOT NULL, -- tells its sessions from those of other keys
    label TEXT,
    agent TEXT,
    sealed INTEGER NOT NULL, -- made by an earlier version: valid by its content, unless it is revoked here
    listed_at INTEGER NOT NULL, -- when it was made; of a sealed key, when it was first seen
    expires_at INTEGER,
    max_leases INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- Sealed keys exist only where an earlier version used this database: a new one, which is still empty here, accepts none.
INSERT INTO meta (name, value) SELECT 'sealed_gateway_keys', 1 FROM meta WHERE name = 'next_fence';
