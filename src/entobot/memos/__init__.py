"""Notes, to-dos and reminders of a person."""
