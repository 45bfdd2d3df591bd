"""The HTTP API: checks what comes in, hands it to the store, shows what the store knows. It runs no model."""
