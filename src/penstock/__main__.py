"""The command `penstock`, also as `python -m penstock`."""

import signal

from penstock import collector


def main() -> None:
    """Run the command. Ctrl-C during its imports ends it at once, without a traceback of the module being imported."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    collector.begin_start()
    from penstock.cli.main import main as run

    collector.end_start()
    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
