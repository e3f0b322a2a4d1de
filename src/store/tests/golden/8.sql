PRAGMA application_id = 1280529234;
PRAGMA user_version = 8;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1', X'4DE6E102EEFC7792535C91BF6E8C7FE6');
INSERT INTO meta VALUES ('clean', 1, X'259C90D89FCD700221923B3B43A94725');
INSERT INTO meta VALUES ('key_check', X'016BFEDCE81698820D29AFE8F87AD1C33D645C3D104D0F38BDFD5EB96C998F2CDE8B58C49AA7689E55252B36E4801E', X'C04743239FB704416677DB2F43D8B021');
INSERT INTO meta VALUES ('lease_key', X'0107875AEDA2FBA6B3BE58B8718FF975B245D915465F99E7984D846AF18336A0DACE996E1ECBB9860E3E22ED887212253C6F8A4AAD07D98012', X'38E23593E5BA5F2DAC8BB6A13928394A');
INSERT INTO meta VALUES ('log_expected', 0, X'EB364A401D45E542E48343950498C365');
INSERT INTO meta VALUES ('next_fence', 65, X'8ED292FBEF060A5EFB163D27DA25E1D6');
CREATE TABLE account (
    place INTEGER PRIMARY KEY, -- in the order they were added
    id TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    label TEXT,
    email TEXT,
    tier TEXT NOT NULL,
    kind TEXT NOT NULL,
    login_state TEXT NOT NULL,
    login_detail TEXT,
    enabled INTEGER NOT NULL,
    disabled_reason TEXT,
    max_leases INTEGER,
    priority INTEGER NOT NULL,
    uses TEXT, -- a JSON list, or NULL for the default of the kind
    project_id TEXT,
    person TEXT,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER
, organization TEXT, organization_name TEXT, tag BLOB) STRICT;
INSERT INTO account VALUES (1, 'ac_00000001', 'anthropic', NULL, '1@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'A1450BBB8153BD235F2DD7DD1FD9822D');
INSERT INTO account VALUES (2, 'ac_00000002', 'anthropic', NULL, '2@example.org', 'pro', 'oauth', 'needs_login', '{"refresh_rejected":{"code":"invalid_grant","answer_lost_at":8}}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'09283981ADDDE911EF23C1BBEAA86530');
INSERT INTO account VALUES (3, 'ac_00000003', 'anthropic', NULL, '3@example.org', 'pro', 'oauth', 'needs_verification', '{"text":"confirm it: https://example.org","link":"https://example.org"}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'1F584C82A7514F1B99A16EC0F20872AE');
INSERT INTO account VALUES (4, 'ac_00000004', 'anthropic', NULL, '4@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, 'uuid-1', 1700000000000, NULL, 'org-1', 'Team', X'21401ECFEF9D4A457D94324428AA776C');
CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
, tag BLOB) STRICT;
INSERT INTO credential VALUES ('ac_00000001', X'011EF619BCDE1148375B83002893E463262E0A4A7E76E9F91BCF257014095018979E9DFA80A5FFF9D64D09082C339E3B3924E7AE5305AA6E7576870F1331E76E1143C222A00D314F5BAFB6C71AA50B1CBEE443642827A132AD059B', 3, X'D5F91DC5E10CDAC73445B8200CAD7911');
CREATE TABLE lease (
    fence INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    provider TEXT NOT NULL,
    family TEXT NOT NULL,
    key TEXT NOT NULL,
    pool TEXT,
    model TEXT,
    session TEXT,
    label TEXT,
    agent TEXT,
    bind TEXT NOT NULL, -- 'process' or 'ttl'
    bind_pid INTEGER,
    bind_start INTEGER,
    holder_pid INTEGER,
    holder_start INTEGER,
    holder_program TEXT,
    exclusive INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    ttl INTEGER,
    expires INTEGER,
    granted_at INTEGER NOT NULL,
    request_id TEXT
, names TEXT, tag BLOB) STRICT;
INSERT INTO lease VALUES (8, 'ac_00000001', 'anthropic', 'claude', 'claude', 'antigravity', 'opus', 'conversation', 'my label', 'claude-code', 'process', 4294967295, -4, 4294967295, -4, 'claude', 1, 1, 90500, 123456, 5, 'r-1', '{"billed":"b","plain":null,"other":{"key":"gemini-cli","pool":"gemini-cli","model":"m","first":true}}', X'4E24FA332E3612A55A2D89CC54615EE4');
CREATE TABLE session (
    provider TEXT NOT NULL,
    session TEXT NOT NULL,
    account TEXT NOT NULL,
    used_at INTEGER NOT NULL, tag BLOB,
    PRIMARY KEY (provider, session)
) STRICT, WITHOUT ROWID;
INSERT INTO session VALUES ('anthropic', 's', 'ac_00000001', 9, X'5D13064BFE1ADA0B63D8967937196540');
CREATE TABLE limits (
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    until INTEGER NOT NULL,
    source TEXT NOT NULL, since INTEGER, evidence TEXT, link TEXT, tag BLOB,
    PRIMARY KEY (account, scope, key)
) STRICT, WITHOUT ROWID;
INSERT INTO limits VALUES ('ac_00000001', 'pool', 'claude', 'quota_exhausted', 77, 'server', 70, 'resets_at', 'https://example.org/plan', X'5ABE8F8A6FD22E1B49A141127AD2D589');
CREATE TABLE fingerprint (
    print BLOB PRIMARY KEY,
    account TEXT NOT NULL,
    kept_at INTEGER NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1796020161319, X'D9EB8C1351F5663E834A73C2FF39FB70');
CREATE TABLE link (
    account TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    path TEXT NOT NULL,
    item TEXT NOT NULL,
    mode TEXT NOT NULL -- 'link', 'take-over' or 'share'
, tag BLOB) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    account TEXT PRIMARY KEY,
    windows TEXT NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO usage VALUES ('ac_00000001', '[{"name":"5h","utilization":0.25,"resets_at":80,"as_of":70,"key":"claude"}]', X'D04CC2EE79E41BEB7EF4938BFB7853B9');
CREATE TABLE former_credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    role TEXT NOT NULL, -- 'before' or 'withdrawn'
    since INTEGER NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO former_credential VALUES ('ac_00000001', X'01E85E26B30FFEECCC5D8D656FAE566F53E89687E393DE14330C0B5AC3BFCC831A5F92C52E708F537E565DDB1E59E99DADFEA33E7A2952787D33D4801C02F2049308A6766D6DB3238C06019B1B6A30E23B6721256CDE9072997A1F', 'before', 5, X'947510B8291DABBDE63B313FB3C441FA');
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
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO gateway_key VALUES (X'0101010101010101010101010101010101010101010101010101010101010101', -2, 'my editor', 'claude', 1, 1700000000000, 1800000000000, 3, 1700000000001, 1700000000002, X'CFE86582BA3FFED7043CA7315EF79049');
CREATE TABLE oauth_client (
    name TEXT PRIMARY KEY,
    provider TEXT, -- NULL: the configuration says which
    client_id TEXT, -- NULL: the configuration says it
    sealed BLOB, -- the secret; a public client has none
    added_at INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;
INSERT INTO oauth_client VALUES ('mine', 'google', 'id-of-mine', X'01BE1491154002B783FB7CF038C1B0D160F61EB5D1C5B7098B712FE307ADFF46F06AD230260AF38029E1860B45A365838774D67BD4859E', 1700000000003, X'94F4E9625BA58F35F055FB796531E395');
INSERT INTO oauth_client VALUES ('public', 'google', 'id-of-public', NULL, 1700000000003, X'E797B1DE1E11BFBB37C93540570C3644');
