"""What a removed guard breaks: each is taken out of a copy of the source, and its test has to fail."""
