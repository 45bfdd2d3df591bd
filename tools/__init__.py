"""Programs for the people who work on Penstock; nothing in here is installed with it."""
