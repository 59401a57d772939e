"""`python -m clapjax`."""

import sys

from clapjax.cli.entry import entry

if __name__ == "__main__":
    sys.exit(entry())
