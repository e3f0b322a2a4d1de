-- Leases that are bound to a connection are not stored: their holders present them to the next daemon. Where the gateway
-- has moved one to another account, its holder knows only the lease that it was granted.

CREATE TABLE moved_lease (
    first INTEGER PRIMARY KEY, -- the fence of the lease that the holder was granted
    lease TEXT NOT NULL, -- the id of the lease that it has now
    tag BLOB
) STRICT;
