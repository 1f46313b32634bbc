"""``python -m calepin``: the command line, where no script is installed."""

import sys

from calepin.cli import main

sys.exit(main())
