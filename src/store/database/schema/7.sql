-- A code over each row, made with the key: a row that was changed by anything but lessor does not fit its tag.

ALTER TABLE meta ADD COLUMN tag BLOB;
ALTER TABLE account ADD COLUMN tag BLOB;
ALTER TABLE credential ADD COLUMN tag BLOB;
ALTER TABLE former_credential ADD COLUMN tag BLOB;
ALTER TABLE link ADD COLUMN tag BLOB;
ALTER TABLE lease ADD COLUMN tag BLOB;
ALTER TABLE session ADD COLUMN tag BLOB;
ALTER TABLE limits ADD COLUMN tag BLOB;
ALTER TABLE usage ADD COLUMN tag BLOB;
ALTER TABLE fingerprint ADD COLUMN tag BLOB;
ALTER TABLE gateway_key ADD COLUMN tag BLOB;
