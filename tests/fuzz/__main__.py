"""``python -m tests.fuzz --seconds 3600 --jobs 2``; see driver.py."""

import sys

from .driver import main

if __name__ == "__main__":
    sys.exit(main())
