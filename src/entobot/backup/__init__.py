"""Back up a whole installation into one file, check such a file, and restore it. See docs/adr/0030."""
