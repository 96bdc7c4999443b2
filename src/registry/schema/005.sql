-- When it became known what came of a submission: its key is remembered from then on.
ALTER TABLE batches ADD COLUMN resolved_ms INTEGER;
ALTER TABLE batches ADD COLUMN resolved_up_ms INTEGER;
