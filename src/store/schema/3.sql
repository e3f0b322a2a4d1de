-- A lease's other names, as JSON: its second quota, and what its model is called there.
ALTER TABLE lease ADD COLUMN names TEXT;

-- When a limit was filed, what showed it, and where the user can do something about it.
ALTER TABLE limits ADD COLUMN since INTEGER;
ALTER TABLE limits ADD COLUMN evidence TEXT;
ALTER TABLE limits ADD COLUMN link TEXT;
