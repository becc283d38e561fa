"""`encdec`, and `python -m encdec_jax`, which is the same: loads the command line, which may be interrupted too."""

import sys


def main() -> int:
    """As `encdec_jax.cli.main.main`."""
    try:
        from encdec_jax.cli.main import main
    except KeyboardInterrupt:
        print("encdec: interrupted", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())
