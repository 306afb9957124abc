-- Nodes that were cut off from NATS, until the last of their tokens has expired.

CREATE TABLE revocations (
    -- The node's public nkey.
    nkey    TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    -- Tokens issued at this second of the Unix epoch or before are refused.
    until   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    -- The generation of the empty assignment that the node should still get.
    epoch   INTEGER NOT NULL,
    counter INTEGER NOT NULL
) STRICT;

-- Registries that take a user name and a password, by project.

CREATE TABLE registries (
    project    TEXT NOT NULL,
    -- Host and port, as images name it.
    host       TEXT NOT NULL,
    username   TEXT NOT NULL,
    -- Encrypted by the vault.
    password   TEXT NOT NULL,
    -- Certificates of the authority that the registry's is signed by, in PEM.
    ca         TEXT,
    -- Whether it is spoken to without TLS.
    insecure   INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (project, host)
) STRICT;
