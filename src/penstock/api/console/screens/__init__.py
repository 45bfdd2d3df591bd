"""The screens of the console, one file each: what a page shows, got from the handlers of the API."""
