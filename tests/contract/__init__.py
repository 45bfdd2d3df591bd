"""Tests the API against its own description: Schemathesis makes up requests, valid or not, alone or in sequences."""
