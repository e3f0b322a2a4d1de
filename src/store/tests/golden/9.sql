PRAGMA application_id = 1280529234;
PRAGMA user_version = 9;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
, tag BLOB) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1', X'4DE6E102EEFC7792535C91BF6E8C7FE6');
INSERT INTO meta VALUES ('clean', 1, X'259C90D89FCD700221923B3B43A94725');
INSERT INTO meta VALUES ('key_check', X'0165E9D5E52E174C3CAA05549AA3F52404CAA1B00350F3AD18E2065292D33DC3EB9C8FEFAF0CC29491822D2EB784CC', X'5EF07B000349820894B10208BAD23546');
INSERT INTO meta VALUES ('lease_key', X'01D945B5B4A4441131C231F6881B71C17F632670A2230FAFCC3E99B525DAF33ABA964B24CB119EF8A9D96A7BD9D9AA55DBA97F42107153FA02', X'C3B5473BE2F091A5EC80911E74F67CC7');
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
INSERT INTO credential VALUES ('ac_00000001', X'0149ABDDFAF2690B50BEACF4DD71861B8EB21D48F4E6F74679806E6A91E99C425EE43A872603032BB9A0725E3ECB0BAED18E9B44F65F2F024CC81336F73F4230BCFF93B7962B04F7425317424FB4DE581FC3D9A982B30E73611F6D', 3, X'A5ED8C625152A7B0792AA1578686F127');
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
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1796033165977, X'C067799320302EB71CC227A80E68F1F2');
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
INSERT INTO former_credential VALUES ('ac_00000001', X'0124510E7F2311FA6676B019272486F6648DE48529F27394C0755C93D06899FEFBF38B01BCF5B9A8C7E29DDED9CAD485D48989F556CAE4EDD069AD815EB5526CBDA222A446427FE5D032F88B402124781AB8B2D842657A36954D95', 'before', 5, X'A7602EE7C811820772B68CD23EAB4A3B');
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
INSERT INTO oauth_client VALUES ('mine', 'google', 'id-of-mine', X'019C9CB049004B6BC422C8953AF506B462BE20C8F79EBC6013555FD321117732B8EDC96DA0AB269ADFD0317D432B889EF5586E63EA37D1', 1700000000003, X'A77B09CAAB5B818398A8BE5415422F1B');
INSERT INTO oauth_client VALUES ('public', 'google', 'id-of-public', NULL, 1700000000003, X'E797B1DE1E11BFBB37C93540570C3644');
