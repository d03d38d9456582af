"""Alerts: what the people who look after the gateway must hear of, who was told, and who has taken it up."""
