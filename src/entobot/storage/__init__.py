"""The durable truth: the Database port and its adapters. Knows no feature."""
