-- Who an account belongs to: a person, in an organisation or workspace. One id stood for either before: at OpenAI it was
-- the id of the workspace, elsewhere that of the person.

ALTER TABLE account RENAME COLUMN vendor_id TO person;
ALTER TABLE account ADD COLUMN organization TEXT;
ALTER TABLE account ADD COLUMN organization_name TEXT;

UPDATE account SET organization = person, person = NULL WHERE provider = 'openai';

-- The other credential of an account whose linked file got a login of an owner who is not certain yet: the one before
-- it, or one that was taken back because it belongs to another account.
CREATE TABLE former_credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    role TEXT NOT NULL, -- 'before' or 'withdrawn'
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
