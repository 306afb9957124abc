-- Rollouts, volumes, networks, and what people say of nodes.

ALTER TABLE nodes ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
-- active, cordoned or draining.
ALTER TABLE nodes ADD COLUMN availability TEXT NOT NULL DEFAULT 'active';
-- A map from label to value, null where people took the agent's label away.
ALTER TABLE nodes ADD COLUMN label_changes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE nodes ADD COLUMN rebooted_at INTEGER;
UPDATE nodes SET number = (SELECT COUNT(*) FROM nodes AS other WHERE other.id < nodes.id);

-- A node that was removed: should it come back, its assignments go on above this generation, and
-- what it runs is not taken in.
CREATE TABLE removed_nodes (
    id         TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    removed_at INTEGER NOT NULL
) STRICT;

ALTER TABLE deployments ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN restart_floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN stable INTEGER;
-- The walk to the newest revision as JSON, until it ends.
ALTER TABLE deployments ADD COLUMN rollout TEXT CHECK (rollout IS NULL OR json_valid(rollout));
-- What was deployed before rollouts existed counts as proven.
UPDATE deployments SET stable = revision;

ALTER TABLE revisions ADD COLUMN cause TEXT NOT NULL DEFAULT '{"type":"deploy"}';
ALTER TABLE revisions ADD COLUMN state TEXT NOT NULL DEFAULT 'succeeded';
ALTER TABLE revisions ADD COLUMN message TEXT;
ALTER TABLE revisions ADD COLUMN log TEXT NOT NULL DEFAULT '[]';
ALTER TABLE revisions ADD COLUMN ended_at INTEGER;

ALTER TABLE instances ADD COLUMN because TEXT NOT NULL DEFAULT '';

CREATE TABLE volumes (
    -- PROJECT/NAME or PROJECT/NAME.SLOT
    name       TEXT PRIMARY KEY,
    node_id    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    removing   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE networks (
    project    TEXT NOT NULL,
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL CHECK (json_valid(spec)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT;
