-- What a submission's outcome rests on. Only additions: a row that was written before keeps its meaning.
-- For how long something in between may have held it already, over all processes; `quiet_ms` counts answered look-ups only.
ALTER TABLE batches ADD COLUMN waited_ms INTEGER NOT NULL DEFAULT 0;
UPDATE batches SET waited_ms = quiet_ms WHERE phase = 'sending';
-- Its cluster said that it has it, and not under which id.
ALTER TABLE batches ADD COLUMN arrived INTEGER NOT NULL DEFAULT 0;
-- Proven that nothing runs: it did not arrive, or was refused. Its key is free.
ALTER TABLE batches ADD COLUMN absent INTEGER NOT NULL DEFAULT 0;
