"""The command line. The modules that declare commands import little, so that `--help` is fast; each command imports
what it runs when it is called."""
