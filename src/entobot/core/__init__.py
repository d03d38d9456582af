"""Words everybody shares: clock, ids, secrets, errors, permissions, principal, topics. Pure; imports nothing of ours."""
