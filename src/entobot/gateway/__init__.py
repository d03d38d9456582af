"""Kit: connections to devices. Knows no feature; is handed a table of commands."""
