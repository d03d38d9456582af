"""How people sign in with a browser: one-time links, passkeys, and the sessions they open."""
