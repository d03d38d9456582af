"""Webhooks to programs that asked something: the answer is posted to them once it is there."""
