-- What is kept sealed, and to whom it is sealed on the way.

CREATE TABLE vault (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- The data key, sealed by the master key, which is not in the database.
    sealed_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    sealed_at  INTEGER NOT NULL
) STRICT;

-- The public half of the node's X25519 key; null: its agent cannot take sealed things.
ALTER TABLE nodes ADD COLUMN sealing_key TEXT;

CREATE TABLE secrets (
    project    TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    -- Sealed by the data key; null once it was erased.
    sealed     TEXT,
    bytes      INTEGER NOT NULL,
    -- Whether it can be an environment variable.
    is_text    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (project, name, version)
) STRICT;

-- A map from secret to version, of those that the spec does not name by their versions.
ALTER TABLE instances ADD COLUMN secrets TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(secrets));
