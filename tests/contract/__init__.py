"""The API against its own description: Schemathesis makes requests up from it, valid or not, alone or in sequences."""
