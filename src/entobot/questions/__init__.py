"""Programs ask people: free text, a choice, or a form; the answer waits until it is fetched."""
