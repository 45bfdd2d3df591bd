"""The examples of the OpenAPI document; a test decodes each with the type that it shows."""
