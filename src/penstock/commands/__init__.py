"""The commands beside those that run servers. `client` declares them and is light, so that `--help`
comes at once; what they run is imported by the one that is called."""
