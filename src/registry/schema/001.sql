-- One row for each batch, from the moment before it is sent. AUTOINCREMENT: an id is never used twice, also after a deletion.
CREATE TABLE batches (
    id               INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 2147483647),
    cluster          TEXT NOT NULL,
    route            TEXT NOT NULL,
    lookup_key       TEXT NOT NULL,
    sent_name        TEXT,
    owner            TEXT,
    name             TEXT,
    proxy_user       TEXT,
    adopted          INTEGER NOT NULL DEFAULT 0,
    phase            TEXT NOT NULL CHECK (phase IN ('sending', 'bound', 'refused', 'detached', 'deleted')),
    upstream_id      TEXT,
    state            TEXT NOT NULL,
    app_id           TEXT,
    app_info         TEXT NOT NULL DEFAULT '{}',
    log              TEXT NOT NULL DEFAULT '[]',
    complete         INTEGER NOT NULL DEFAULT 0,
    created_ms       INTEGER NOT NULL,
    seen_ms          INTEGER NOT NULL DEFAULT 0,
    ended_ms         INTEGER,
    name_hold_ms     INTEGER NOT NULL DEFAULT 0,
    idempotency_key  TEXT,
    idempotency_hash TEXT,
    idempotency_until_ms INTEGER
);

-- An upstream id belongs to one living batch; the dead keep theirs as history.
CREATE UNIQUE INDEX batches_upstream ON batches (cluster, upstream_id) WHERE phase = 'bound';
CREATE INDEX batches_name ON batches (name) WHERE name IS NOT NULL;
CREATE INDEX batches_owner ON batches (owner, id);
CREATE INDEX batches_sending ON batches (cluster) WHERE phase = 'sending';
CREATE INDEX batches_refused_key ON batches (lookup_key) WHERE phase = 'refused';
CREATE INDEX batches_refused_name ON batches (sent_name) WHERE phase = 'refused';
CREATE INDEX batches_dead ON batches (cluster, upstream_id) WHERE phase IN ('deleted', 'detached');
CREATE UNIQUE INDEX batches_idempotency ON batches (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
