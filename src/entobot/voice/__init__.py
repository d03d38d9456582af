"""What people say into their phones becomes text: they read it before it is sent."""
