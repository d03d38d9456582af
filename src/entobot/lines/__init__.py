"""What people may do by SMS: ask, look, note, be reminded."""
