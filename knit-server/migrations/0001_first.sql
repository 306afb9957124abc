-- One text for SQLite; the queries in src/store are written so that they run on PostgreSQL too.
-- Moments are milliseconds since the Unix epoch. JSON is text.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE nodes (
    id                TEXT PRIMARY KEY,
    -- Empty until the node registers with a server that forgot it.
    nkey              TEXT NOT NULL,
    facts             TEXT NOT NULL CHECK (json_valid(facts)),
    subnet            TEXT,
    lost              INTEGER NOT NULL DEFAULT 0,
    adopting          INTEGER NOT NULL DEFAULT 0,
    -- Generation that was decided, and the newest that was ever sent.
    epoch             INTEGER NOT NULL DEFAULT 0,
    counter           INTEGER NOT NULL DEFAULT 0,
    published_epoch   INTEGER NOT NULL DEFAULT 0,
    published_counter INTEGER NOT NULL DEFAULT 0,
    -- The newest report that was stored.
    report_start      INTEGER NOT NULL DEFAULT 0,
    report_sequence   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX nodes_subnet ON nodes (subnet) WHERE subnet IS NOT NULL;

CREATE TABLE deployments (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    name       TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    removed_at INTEGER,
    hold_until INTEGER
) STRICT;

-- A name is free as soon as its deployment is removed.
CREATE UNIQUE INDEX deployments_name ON deployments (project, name) WHERE removed_at IS NULL;

CREATE TABLE revisions (
    deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    revision      INTEGER NOT NULL,
    spec          TEXT NOT NULL CHECK (json_valid(spec)),
    spec_hash     TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (deployment_id, revision)
) STRICT;

CREATE TABLE specs (
    hash TEXT PRIMARY KEY,
    spec TEXT NOT NULL CHECK (json_valid(spec))
) STRICT;

-- Desired: what was decided, row by row.
CREATE TABLE instances (
    id            TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    slot          INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    node_id       TEXT NOT NULL REFERENCES nodes (id),
    spec_hash     TEXT NOT NULL REFERENCES specs (hash),
    retry         INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX instances_deployment ON instances (deployment_id);

-- Observed: what nodes said, as they said it.
CREATE TABLE observed (
    node_id     TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (json_valid(status)),
    PRIMARY KEY (node_id, instance_id)
) STRICT;
