"""The per-user durable event log: appended in the caller's transaction, read after a sequence number, acknowledged."""
