"""Work that any process repeats for as long as it runs."""
