"""The console: pages for a browser at /console. Nobody logs in with anything but an API key, and everything that a page
shows or does goes through the handlers of the API, with the scopes of that key."""
