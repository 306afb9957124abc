-- What lets new hosts in, and who shall stay out.

CREATE TABLE join_tokens (
    -- The public half (an nkey, `U…`); a row goes when it is spent or has expired.
    public_key TEXT PRIMARY KEY,
    labels     TEXT NOT NULL CHECK (json_valid(labels)),
    -- The only WireGuard key whose host it lets in.
    wg_pubkey  TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE rejected_nodes (
    id          TEXT PRIMARY KEY,
    rejected_by TEXT NOT NULL,
    rejected_at INTEGER NOT NULL
) STRICT;
