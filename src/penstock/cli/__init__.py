"""The commands beside those that run servers. `client`, `fleet` and `operator` declare them and are light, so that
`--help` comes at once; what they run is imported by the one that is called."""
