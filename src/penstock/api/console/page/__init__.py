"""What every page is made of: its frame, and the parts that screens share. Nothing here knows a screen."""
