"""The parts of HTTP that all routes share; nothing here knows the services or a route."""
