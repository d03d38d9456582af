"""MQTT 3.1.1 and 5 for boards: packets, sessions, and the tables that make both last."""
