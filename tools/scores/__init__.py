"""What scores of images measure, and what they do not."""
