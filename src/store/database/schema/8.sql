-- OAuth clients of the user's, with their secrets.

CREATE TABLE oauth_client (
    name TEXT PRIMARY KEY,
    provider TEXT, -- NULL: the configuration says which
    client_id TEXT, -- NULL: the configuration says it
    sealed BLOB, -- the secret; a public client has none
    added_at INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;
