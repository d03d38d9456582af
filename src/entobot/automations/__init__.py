"""Rules of people: when something is read, changes its status, or it is time, then tell, command, or ask the agent."""
