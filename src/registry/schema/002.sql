-- Versions, what proves what, and clocks. Only additions: a row that was written before keeps its meaning.
ALTER TABLE batches ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
-- Whether a client may have been given this id. Rows from before may have been.
ALTER TABLE batches ADD COLUMN told INTEGER NOT NULL DEFAULT 1;
-- For how long the cluster has been answering look-ups with nothing, over all processes; and when it last did.
ALTER TABLE batches ADD COLUMN quiet_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN looked_ms INTEGER NOT NULL DEFAULT 0;
-- Whether whoever stood in front has answered the submission, and so holds it no longer.
ALTER TABLE batches ADD COLUMN let_go INTEGER NOT NULL DEFAULT 0;
-- Given up without the cluster's own word: the job may still show up, and is then killed (or bound).
ALTER TABLE batches ADD COLUMN may_arrive INTEGER NOT NULL DEFAULT 0;
-- The owner asked for its end.
ALTER TABLE batches ADD COLUMN kill_asked INTEGER NOT NULL DEFAULT 0;
-- The cluster showed the name under which it was submitted.
ALTER TABLE batches ADD COLUMN echoed INTEGER NOT NULL DEFAULT 0;
-- Not proven to be this submission: the only new one in the cluster's list.
ALTER TABLE batches ADD COLUMN presumed INTEGER NOT NULL DEFAULT 0;
-- The highest id that its cluster was known to have given when it was sent.
ALTER TABLE batches ADD COLUMN above INTEGER;
ALTER TABLE batches ADD COLUMN created_up_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN ended_up_ms INTEGER;
ALTER TABLE batches ADD COLUMN idempotency_until_up_ms INTEGER NOT NULL DEFAULT 0;

CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('uptime_ms', 0);

CREATE INDEX batches_key ON batches (lookup_key) WHERE adopted = 0;
CREATE INDEX batches_sent_name ON batches (cluster, sent_name) WHERE sent_name IS NOT NULL;
CREATE INDEX batches_may_arrive ON batches (cluster) WHERE may_arrive = 1;
CREATE INDEX batches_kill_asked ON batches (cluster) WHERE kill_asked = 1 AND phase IN ('sending', 'bound');
DROP INDEX batches_refused_key;
DROP INDEX batches_refused_name;
