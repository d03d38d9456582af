"""A Model Context Protocol server: an agent tells and asks people through a gateway, with one entry in its settings."""
