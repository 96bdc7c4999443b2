-- A key of a gateway is looked for whichever cluster shows it: two entries of the configuration may be one server.
CREATE INDEX batches_lookup_key ON batches (lookup_key) WHERE NOT adopted;
