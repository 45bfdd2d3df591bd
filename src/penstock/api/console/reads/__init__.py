"""What the screens show, read by the handlers of the API and by nothing else: one file for each room of its routes."""
