-- Deployments that were removed and of which nothing is left. Nodes are told of the latest, so that a
-- server that was set back to a time when they were there learns that they ended.

CREATE TABLE removed_deployments (
    id         TEXT PRIMARY KEY,
    removed_at INTEGER NOT NULL
) STRICT;
