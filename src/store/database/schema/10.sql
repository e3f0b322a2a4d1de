-- What this machine has as a host of a pool that many machines share.

CREATE TABLE pool_membership (
    one INTEGER PRIMARY KEY, -- always 1: a machine is a host of one pool
    sealed BLOB NOT NULL, -- its key pair, the pool's keys and the password of its database role
    tag BLOB
) STRICT;

-- The last period of holding seats, so that a restarted daemon goes on with it.
CREATE TABLE pool_term (
    one INTEGER PRIMARY KEY, -- always 1
    term INTEGER NOT NULL,
    life INTEGER NOT NULL, -- the number of the process that had it
    tag BLOB
) STRICT;

-- The accounts that belong to the pool, and of which generation their stored credentials are.
CREATE TABLE shared_account (
    account TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;

-- Accounts whose stored credential is the answer to a refresh that the pool does not have yet.
CREATE TABLE pool_answer (
    account TEXT PRIMARY KEY,
    from_generation INTEGER NOT NULL, -- of the refresh token that was sent
    tag BLOB
) STRICT, WITHOUT ROWID;
