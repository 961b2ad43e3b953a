"""``python -m terrablend`` is the command line."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line; asked to end while that is being loaded, it ends without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from terrablend import cli

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
