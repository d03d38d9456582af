"""The device's side of the protocol: keys, proofs, and requests. Used by the CLI, and by tests and benchmarks."""
