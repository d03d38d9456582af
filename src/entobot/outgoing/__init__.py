"""What the gateway sends to others: mail, and requests to addresses that came from outside."""
