"""May the agent do this? Ask every device, first answer wins, expire."""
