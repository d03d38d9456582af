"""Kit: what every `http.py` needs. Default-deny routes, authentication, problem+json, headers, the built pages."""
