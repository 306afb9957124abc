-- Projects are made before something goes into them. What names one already keeps it.

CREATE TABLE projects (
    name       TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

-- A volume's name is PROJECT/NAME: what is left of the slash is found by taking away the rest.
INSERT INTO projects (name, created_at)
SELECT project, MIN(created_at)
FROM (
    SELECT project, created_at FROM deployments
    UNION ALL
    SELECT project, created_at FROM networks
    UNION ALL
    SELECT replace(name, ltrim(name, 'abcdefghijklmnopqrstuvwxyz0123456789-'), ''), created_at
    FROM volumes
) AS named
GROUP BY project;
