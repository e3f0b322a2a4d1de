PRAGMA application_id = 1280529234;
PRAGMA user_version = 11;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1', X'4DE6E102EEFC7792535C91BF6E8C7FE6');
INSERT INTO meta VALUES ('clean', 1, X'259C90D89FCD700221923B3B43A94725');
INSERT INTO meta VALUES ('key_check', X'01FC65962E6F9897A66B11BA2515580F13ED929C53A906833DB3D5A5986DAC07E2CF57679906D2A57AF1BDAE6BD024', X'1E9BE628D2261434DBEEE9505E230343');
INSERT INTO meta VALUES ('lease_key', X'01489C2B4CB35B44311C4BF679A76A8649075BAB385A803AEE2BCA3700FF4D44BE37C9B43916F90F827F34FAF5A50FCD1C6B22698A864320D8', X'43483CB9BB07060579969C7D41071079');
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
, organization TEXT, organization_name TEXT, tag BLOB, reserve REAL, fallback_only INTEGER) STRICT;
INSERT INTO account VALUES (1, 'ac_00000001', 'anthropic', NULL, '1@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'A1450BBB8153BD235F2DD7DD1FD9822D', NULL, NULL);
INSERT INTO account VALUES (2, 'ac_00000002', 'anthropic', NULL, '2@example.org', 'pro', 'oauth', 'needs_login', '{"refresh_rejected":{"code":"invalid_grant","answer_lost_at":8}}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'09283981ADDDE911EF23C1BBEAA86530', NULL, NULL);
INSERT INTO account VALUES (3, 'ac_00000003', 'anthropic', NULL, '3@example.org', 'pro', 'oauth', 'needs_verification', '{"text":"confirm it: https://example.org","link":"https://example.org"}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'1F584C82A7514F1B99A16EC0F20872AE', NULL, NULL);
INSERT INTO account VALUES (4, 'ac_00000004', 'anthropic', NULL, '4@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, 'uuid-1', 1700000000000, NULL, 'org-1', 'Team', X'21401ECFEF9D4A457D94324428AA776C', NULL, NULL);
INSERT INTO account VALUES (5, 'ac_00000005', 'anthropic', NULL, '5@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL, X'A3EFDDB8038548A0CEDA71D1ED3D9333', 0.25, 1);
CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
, tag BLOB) STRICT;
INSERT INTO credential VALUES ('ac_00000001', X'0147C57FBEBF341E43456F555D00E3EDEFBCD20E2E08487BD20ED31CC76A65E718D1552092DAF188A7199920DF8DAC5539AFE5AF23E50ADE029C6071C943F17ABDBE932C031CCF1AFB3E93A759D01CED704CBB1DE79CE0E3844B2B', 3, X'A04A2D6A95AE37BB5F2B991058C5EBD5');
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
, names TEXT, tag BLOB, only_accounts TEXT, directory TEXT) STRICT;
INSERT INTO lease VALUES (8, 'ac_00000001', 'anthropic', 'claude', 'claude', 'antigravity', 'opus', 'conversation', 'my label', 'claude-code', 'process', 4294967295, -4, 4294967295, -4, 'claude', 1, 1, 90500, 123456, 5, 'r-1', '{"billed":"b","plain":null,"other":{"key":"gemini-cli","pool":"gemini-cli","model":"m","first":true}}', X'4E24FA332E3612A55A2D89CC54615EE4', NULL, NULL);
INSERT INTO lease VALUES (9, 'ac_00000005', 'anthropic', 'claude', 'claude', 'antigravity', 'opus', 'conversation', 'my label', 'claude-code', 'process', 4294967295, -4, 4294967295, -4, 'claude', 1, 1, 90500, 123456, 5, 'r-1', NULL, X'D37272056D26FA514622B5CB000817FE', '["ac_00000001","ac_00000005"]', '/home/user/client-a');
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
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1796066508194, X'7BF56385143558376F696D4C13696374');
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
INSERT INTO former_credential VALUES ('ac_00000001', X'01E4D5A3788B37F63479CC183AE958C5519F518EE83B13BAAEF70763D7D2AB12B82570140947857443669D5E30805D0312B9F9123147C2F2607C46F18C8F2E79235F449217F7B2B0A989BC24F7F8F3DFC731815C05E3878C1F34FE', 'before', 5, X'B9D7253C4A878F0F502C9E33B73E805D');
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
, tag BLOB, directory TEXT) STRICT, WITHOUT ROWID;
INSERT INTO gateway_key VALUES (X'0101010101010101010101010101010101010101010101010101010101010101', -2, 'my editor', 'claude', 1, 1700000000000, 1800000000000, 3, 1700000000001, 1700000000002, X'CFE86582BA3FFED7043CA7315EF79049', NULL);
INSERT INTO gateway_key VALUES (X'0202020202020202020202020202020202020202020202020202020202020202', -2, 'my editor', 'claude', 1, 1700000000000, 1800000000000, 3, 1700000000001, 1700000000002, X'863D6D2DAB2FAA1B225CFD3B33BF2258', '/home/user/client-a');
CREATE TABLE oauth_client (
    name TEXT PRIMARY KEY,
    provider TEXT, -- NULL: the configuration says which
    client_id TEXT, -- NULL: the configuration says it
    sealed BLOB, -- the secret; a public client has none
    added_at INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;
INSERT INTO oauth_client VALUES ('mine', 'google', 'id-of-mine', X'013D8685ADFC1434890E0C2A6A65DFC77E86F7BB3AC141878283AF0B125FE5E2D5CEF31EFC4A33A098486A847AFFE65FCD5CF8F589EFB0', 1700000000003, X'A99B6D296E8287E45BE3D2732C37EADD');
INSERT INTO oauth_client VALUES ('public', 'google', 'id-of-public', NULL, 1700000000003, X'E797B1DE1E11BFBB37C93540570C3644');
CREATE TABLE pool_membership (
    one INTEGER PRIMARY KEY, -- always 1: a machine is a host of one pool
    sealed BLOB NOT NULL, -- its key pair, the pool's keys and the password of its database role
    tag BLOB
) STRICT;
INSERT INTO pool_membership VALUES (1, X'01882314E62BF7AFBB6523B9E5EC9E8D4ABB696A117FC8B27CA5B8BD9681DD6E8FBCE7C71A56227D59AE605E18C6B4BB272ADCDA6DC987E3E50EA408D4D75E', X'FCC8D540C67ED7DE058AEB26E955922C');
CREATE TABLE pool_term (
    one INTEGER PRIMARY KEY, -- always 1
    term INTEGER NOT NULL,
    life INTEGER NOT NULL, -- the number of the process that had it
    tag BLOB
) STRICT;
INSERT INTO pool_term VALUES (1, 7, -6, X'89BFDF833CF279CE1BFE1F574A737A0A');
CREATE TABLE shared_account (
    account TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;
INSERT INTO shared_account VALUES ('ac_00000001', 3, X'C40C385213204B90849046AE2AE84EB6');
INSERT INTO shared_account VALUES ('ac_00000002', 4, X'FA807E93978892399C4EB770CBF0E26A');
CREATE TABLE pool_answer (
    account TEXT PRIMARY KEY,
    from_generation INTEGER NOT NULL, -- of the refresh token that was sent
    tag BLOB
) STRICT, WITHOUT ROWID;
INSERT INTO pool_answer VALUES ('ac_00000002', 4, X'621D5F81183362B7D8FB0193BFF20218');
CREATE TABLE moved_lease (
    first INTEGER PRIMARY KEY, -- the fence of the lease that the holder was granted
    lease TEXT NOT NULL, -- the id of the lease that it has now
    tag BLOB
) STRICT;
INSERT INTO moved_lease VALUES (7, 'ls_golden', X'5DB7A8B5C15F4EFFF6A9B58FFE6F47F6');
