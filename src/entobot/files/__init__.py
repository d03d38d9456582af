"""Attachments: bytes in parts, bounded, of one person, and only once whole part of a message."""
