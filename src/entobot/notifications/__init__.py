"""Notifications: reach a person when it matters. Live connection first, then push, then what their own rules say."""
