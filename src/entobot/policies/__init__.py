"""Policies in Cedar: who may publish, subscribe and command, beyond what is built in."""
