"""The doorbell between nodes: the Bus port and its adapters. The database stays the truth."""
