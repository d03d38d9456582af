"""Boards let themselves in: a limited key that makes one device, with a key of its own, for each board that shows it."""
