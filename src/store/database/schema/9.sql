-- Accounts that are kept back, and requests that are restricted to some accounts. A column without a value changes no
-- row's tag.

ALTER TABLE account ADD COLUMN reserve REAL; -- the part of its windows that is kept for requests that name it
ALTER TABLE account ADD COLUMN fallback_only INTEGER; -- 1: it serves only while no other account can
ALTER TABLE lease ADD COLUMN only_accounts TEXT; -- the ids of the accounts that its holder listed, as a JSON list
ALTER TABLE lease ADD COLUMN directory TEXT; -- where its holder works
ALTER TABLE gateway_key ADD COLUMN directory TEXT; -- where the clients with the key work
