-- What explains an account's login state is data, as JSON; it was a sentence before.

ALTER TABLE account RENAME COLUMN standing TO login_state;
ALTER TABLE account RENAME COLUMN standing_why TO login_detail;

UPDATE account SET login_detail = NULL WHERE login_state = 'ready';

UPDATE account SET login_detail = CASE
    WHEN login_detail GLOB 'its access token has ended*' THEN '"access_token_ended"'
    ELSE json_object('described', coalesce(login_detail, ''))
END WHERE login_state = 'needs_login';

-- The link is the first one in the sentence, without the punctuation that follows it.
UPDATE account SET login_detail = json_object('text', login_detail, 'link', (
    SELECT rtrim(substr(rest, 1, instr(rest || ' ', ' ') - 1), '.,);')
    FROM (SELECT substr(login_detail, instr(login_detail, 'https://')) AS rest)
    WHERE instr(login_detail, 'https://') > 0
)) WHERE login_state = 'needs_verification';
