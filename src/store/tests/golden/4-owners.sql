INSERT INTO account VALUES (11, 'ac_0000000b', 'anthropic', NULL, 'a@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, 'uuid-1', 1700000000000, NULL);
INSERT INTO account VALUES (12, 'ac_0000000c', 'openai', NULL, 'a@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, 'workspace-1', 1700000000000, NULL);
INSERT INTO account VALUES (13, 'ac_0000000d', 'google', NULL, 'a@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, '1098', 1700000000000, NULL);
INSERT INTO account VALUES (14, 'ac_0000000e', 'openai', 'key', NULL, 'unknown', 'api_key', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL);
