"""Runs: prompt → steps → reply; runners, tools, and what survives a restart."""
