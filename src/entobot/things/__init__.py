"""What boards read and do: types, state, history, commands."""
