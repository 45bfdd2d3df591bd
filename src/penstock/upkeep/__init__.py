"""Work that is repeated for as long as Penstock runs, by any process."""
