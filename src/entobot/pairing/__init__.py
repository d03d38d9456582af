"""Invites (QR, link, code) → a device with credentials. Claim, confirm, collect; nothing else makes a device."""
