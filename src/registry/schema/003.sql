-- What administrators said about clusters, by name: it holds until it is taken back, also for a cluster that is not configured for a while.
CREATE TABLE orders (
    cluster  TEXT NOT NULL,
    wish     TEXT NOT NULL CHECK (wish IN ('drain', 'disable')),
    since_ms INTEGER NOT NULL,
    given_by TEXT NOT NULL,
    PRIMARY KEY (cluster, wish)
) WITHOUT ROWID;

-- Counting what runs is asked by everybody who drains a cluster, and at every scrape.
CREATE INDEX batches_live ON batches (cluster) WHERE phase IN ('sending', 'bound') AND ended_ms IS NULL;
