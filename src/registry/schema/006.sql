-- What is asked of the registry costs what is answered, however many batches it holds. Only additions, but for indexes that others replace.

-- How many batches are shown to clients: in each block of 1,024 ids (level 0), of 128 such blocks (1), and of 128 of those (2). By owner and
-- cluster, by each of them alone, and over all ('' stands for all). A block that counts nothing is not there.
CREATE TABLE counts (
    owner   TEXT NOT NULL,
    cluster TEXT NOT NULL,
    level   INTEGER NOT NULL,
    block   INTEGER NOT NULL,
    shown   INTEGER NOT NULL,
    PRIMARY KEY (owner, cluster, level, block)
) WITHOUT ROWID;
INSERT INTO counts SELECT '', '', 0, id >> 10, count(*) FROM batches WHERE phase IN ('sending', 'bound', 'detached') GROUP BY id >> 10;
INSERT INTO counts SELECT '', cluster, 0, id >> 10, count(*) FROM batches WHERE phase IN ('sending', 'bound', 'detached') GROUP BY cluster, id >> 10;
INSERT INTO counts SELECT owner, '', 0, id >> 10, count(*) FROM batches WHERE phase IN ('sending', 'bound', 'detached') AND owner <> ''
    GROUP BY owner, id >> 10;
INSERT INTO counts SELECT owner, cluster, 0, id >> 10, count(*) FROM batches WHERE phase IN ('sending', 'bound', 'detached') AND owner <> ''
    GROUP BY owner, cluster, id >> 10;
INSERT INTO counts SELECT owner, cluster, 1, block >> 7, sum(shown) FROM counts WHERE level = 0 GROUP BY owner, cluster, block >> 7;
INSERT INTO counts SELECT owner, cluster, 2, block >> 7, sum(shown) FROM counts WHERE level = 1 GROUP BY owner, cluster, block >> 7;

-- A procedure, which SQLite has none of: what is put into the view is counted, one more or one less. Rows of VALUES, because a statement
-- for each of them, or a join, takes twice as long.
CREATE VIEW counted AS SELECT owner, cluster, id, 0 AS change FROM batches;
CREATE TRIGGER counted_over_all INSTEAD OF INSERT ON counted BEGIN
    INSERT INTO counts VALUES
            ('', '', 0, NEW.id >> 10, NEW.change),
            ('', '', 1, NEW.id >> 17, NEW.change),
            ('', '', 2, NEW.id >> 24, NEW.change),
            ('', NEW.cluster, 0, NEW.id >> 10, NEW.change),
            ('', NEW.cluster, 1, NEW.id >> 17, NEW.change),
            ('', NEW.cluster, 2, NEW.id >> 24, NEW.change)
        ON CONFLICT DO UPDATE SET shown = shown + excluded.shown;
END;
CREATE TRIGGER counted_by_owner INSTEAD OF INSERT ON counted WHEN NEW.owner <> '' BEGIN
    INSERT INTO counts VALUES
            (NEW.owner, '', 0, NEW.id >> 10, NEW.change),
            (NEW.owner, '', 1, NEW.id >> 17, NEW.change),
            (NEW.owner, '', 2, NEW.id >> 24, NEW.change),
            (NEW.owner, NEW.cluster, 0, NEW.id >> 10, NEW.change),
            (NEW.owner, NEW.cluster, 1, NEW.id >> 17, NEW.change),
            (NEW.owner, NEW.cluster, 2, NEW.id >> 24, NEW.change)
        ON CONFLICT DO UPDATE SET shown = shown + excluded.shown;
END;
CREATE TRIGGER counted_to_nothing AFTER UPDATE ON counts WHEN NEW.shown = 0 BEGIN
    DELETE FROM counts WHERE owner = NEW.owner AND cluster = NEW.cluster AND level = NEW.level AND block = NEW.block;
END;
CREATE TRIGGER batches_shown_at_once AFTER INSERT ON batches WHEN NEW.phase IN ('sending', 'bound', 'detached') BEGIN
    INSERT INTO counted VALUES (NEW.owner, NEW.cluster, NEW.id, 1);
END;
CREATE TRIGGER batches_shown_or_not AFTER UPDATE OF phase ON batches
    WHEN (NEW.phase IN ('sending', 'bound', 'detached')) <> (OLD.phase IN ('sending', 'bound', 'detached'))
BEGIN
    INSERT INTO counted VALUES (NEW.owner, NEW.cluster, NEW.id, CASE WHEN NEW.phase IN ('sending', 'bound', 'detached') THEN 1 ELSE -1 END);
END;
CREATE TRIGGER batches_swept AFTER DELETE ON batches WHEN OLD.phase IN ('sending', 'bound', 'detached') BEGIN
    INSERT INTO counted VALUES (OLD.owner, OLD.cluster, OLD.id, -1);
END;

-- How many batches of a cluster have not ended.
CREATE TABLE live (cluster TEXT NOT NULL PRIMARY KEY, batches INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO live SELECT cluster, count(*) FROM batches WHERE phase IN ('sending', 'bound') AND ended_ms IS NULL GROUP BY cluster;
CREATE TRIGGER batches_begin AFTER INSERT ON batches WHEN NEW.phase IN ('sending', 'bound') AND NEW.ended_ms IS NULL BEGIN
    INSERT INTO live VALUES (NEW.cluster, 1) ON CONFLICT DO UPDATE SET batches = batches + 1;
END;
CREATE TRIGGER batches_begin_or_end AFTER UPDATE OF phase, ended_ms ON batches
    WHEN (NEW.phase IN ('sending', 'bound') AND NEW.ended_ms IS NULL) <> (OLD.phase IN ('sending', 'bound') AND OLD.ended_ms IS NULL)
BEGIN
    INSERT INTO live VALUES (NEW.cluster, CASE WHEN NEW.phase IN ('sending', 'bound') AND NEW.ended_ms IS NULL THEN 1 ELSE -1 END)
        ON CONFLICT DO UPDATE SET batches = batches + excluded.batches;
END;
CREATE TRIGGER batches_end AFTER DELETE ON batches WHEN OLD.phase IN ('sending', 'bound') AND OLD.ended_ms IS NULL BEGIN
    UPDATE live SET batches = batches - 1 WHERE cluster = OLD.cluster;
END;

-- Pages.
CREATE INDEX batches_shown ON batches (id) WHERE phase IN ('sending', 'bound', 'detached');
CREATE INDEX batches_shown_of_cluster ON batches (cluster, id) WHERE phase IN ('sending', 'bound', 'detached');
CREATE INDEX batches_shown_of_owner ON batches (owner, id) WHERE phase IN ('sending', 'bound', 'detached');
CREATE INDEX batches_shown_of_both ON batches (owner, cluster, id) WHERE phase IN ('sending', 'bound', 'detached');
DROP INDEX batches_owner;

-- Names: the newest of a name, and who holds it. Those that a list may have to do with: what was bound under a name that a client chose,
-- or was given up on its cluster's own word, is known by its upstream id and by nothing else.
CREATE INDEX batches_named ON batches (name, id) WHERE name IS NOT NULL AND phase IN ('sending', 'bound', 'detached');
CREATE INDEX batches_named_of_owner ON batches (owner, name, id) WHERE name IS NOT NULL AND phase IN ('sending', 'bound', 'detached');
CREATE INDEX batches_name_held ON batches (name, ended_ms) WHERE name IS NOT NULL AND phase IN ('sending', 'bound');
CREATE INDEX batches_related ON batches (cluster, sent_name, id)
    WHERE sent_name IS NOT NULL AND (phase IN ('sending', 'refused') OR may_arrive = 1 OR sent_name = 'livy-gateway-' || lookup_key);
DROP INDEX batches_name;
DROP INDEX batches_sent_name;

-- What is on its way, and what came of it.
CREATE INDEX batches_open ON batches (phase, id) WHERE phase = 'sending';
CREATE INDEX batches_open_unnamed ON batches (cluster, id) WHERE phase = 'sending' AND sent_name IS NULL AND adopted = 0;
CREATE INDEX batches_unknown_unnamed ON batches (cluster, ended_up_ms)
    WHERE phase IN ('detached', 'deleted') AND upstream_id IS NULL AND absent = 0 AND sent_name IS NULL AND adopted = 0;
CREATE INDEX batches_answered ON batches (cluster, id) WHERE phase <> 'sending';
-- By id and not by hash, so that it grows at its end: hashes would each touch another page. Asked is what came after a job that is late.
CREATE INDEX batches_alike ON batches (owner, id, idempotency_hash) WHERE phase <> 'refused';
DROP INDEX batches_sending;

-- What is old.
CREATE INDEX batches_ended ON batches (ended_ms, id, ended_up_ms) WHERE ended_ms IS NOT NULL;
CREATE INDEX batches_gone ON batches (created_ms, id, created_up_ms) WHERE phase IN ('refused', 'deleted') AND ended_ms IS NULL;
