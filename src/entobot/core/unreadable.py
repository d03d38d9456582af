"""Bytes from elsewhere that are not the JSON asked for."""

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for them: a string with bytes that are no UTF-8 is no DecodeError."""
