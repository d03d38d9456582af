"""Entobot: a self-hosted gateway between AI agents, connected devices and the people who own them."""

__version__ = "0.1.0"
