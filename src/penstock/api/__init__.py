"""The HTTP API: checks what comes in, hands it to the store, shows what the store knows. It runs no model."""

from penstock.lazy_import import postpone

postpone("yaml")  # Litestar imports it, for an OpenAPI document in YAML
