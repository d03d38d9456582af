"""The composition root: builds every object, starts and stops them in order. Nothing imports it but the CLI."""
