"""Programs for the people who work on Penstock. None of them is part of the installed package."""
