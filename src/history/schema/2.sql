-- how many requests a row stands for; more than one: it has their sums
ALTER TABLE request ADD COLUMN requests INTEGER NOT NULL DEFAULT 1;
ALTER TABLE attempt ADD COLUMN requests INTEGER NOT NULL DEFAULT 1;
-- the only attempt, where it succeeded: it has no row of its own
ALTER TABLE request ADD COLUMN only_after_ms INTEGER;
ALTER TABLE request ADD COLUMN only_ms INTEGER;
