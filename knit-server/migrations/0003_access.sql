-- Who may use the API.

CREATE TABLE tokens (
    -- The part of the token that is no secret.
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    -- SHA-256 of the whole token, in hex.
    digest       TEXT NOT NULL,
    role         TEXT NOT NULL,
    -- A list of project names as JSON; null: all.
    projects     TEXT CHECK (projects IS NULL OR json_valid(projects)),
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;
