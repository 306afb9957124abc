-- Who is logged in with a browser. The session's id is in the browser's cookie alone.

CREATE TABLE sessions (
    -- SHA-256 of the id, in hex.
    digest     TEXT PRIMARY KEY,
    -- The token that it was opened with: it ends with it. Null when an identity provider said who.
    token_id   TEXT REFERENCES tokens (id) ON DELETE CASCADE,
    -- What the provider's word came to, as JSON.
    actor      TEXT CHECK (actor IS NULL OR json_valid(actor)),
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK ((token_id IS NULL) <> (actor IS NULL))
) STRICT;
