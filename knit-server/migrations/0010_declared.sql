-- Which deployments were declared by a file on the server's host, so that a file which is gone is
-- noticed.

CREATE TABLE declared (
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    -- The file's name within the directory.
    file    TEXT NOT NULL,
    PRIMARY KEY (project, name)
) STRICT;
