"""Conversations and their messages. A user message that no run has taken is the work that agents look for."""
