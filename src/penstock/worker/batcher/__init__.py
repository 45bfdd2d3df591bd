"""What a device runs next."""
