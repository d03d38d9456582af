"""Addresses on the bus and in event envelopes, in one place."""

DEVICES = "devices"
APPROVALS = "approvals"
NOTIFICATIONS = "notifications"
QUESTIONS = "questions"
CONTROL_APPROVALS = "control.approvals"
CONTROL_CONNECTIONS = "control.connections"
CONTROL_DEVICES = "control.devices"
CONTROL_INVITES = "control.invites"
CONTROL_POLICIES = "control.policies"
CONTROL_QUESTIONS = "control.questions"
WORK_MESSAGES = "here.work.messages"
WORK_APPROVALS = "here.work.approvals"
WORK_AUTOMATIONS = "here.work.automations"
WORK_BRIDGES = "work.mqtt_bridges"
WORK_CALLBACKS = "here.work.callbacks"
WORK_NOTIFICATIONS = "here.work.notifications"
"""Work is done where it came up; should that node go, the others find it when they sweep."""
WORK_RUNS = "work.runs"


def user(user_id: str) -> str:
    """Bus topic: this user's stream grew, or carries a live event."""
    return f"user.{user_id}"


def texts(user_id: str) -> str:
    """Bus topic: texts that were being written for this user have ended, by their message ids."""
    return f"texts.{user_id}"


def conversation(conversation_id: str) -> str:
    """Envelope topic of everything that belongs to one conversation."""
    return f"conversation:{conversation_id}"
