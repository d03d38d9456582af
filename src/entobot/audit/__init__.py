"""The append-only, hash-chained log of what matters, written in the caller's transaction."""
