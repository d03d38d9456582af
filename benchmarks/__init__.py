"""Speed and size, against their targets. `python -m benchmarks [NAME …]` prints the table."""
