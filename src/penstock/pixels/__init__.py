"""What an image file is, read from its bytes without a decoder."""
