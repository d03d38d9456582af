"""What was set while the gateway ran: stored, merged with the file and the environment, told and audited."""
