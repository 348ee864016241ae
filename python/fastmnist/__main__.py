"""``python -m fastmnist``."""

import sys

from fastmnist.cli import main

if __name__ == "__main__":
    sys.exit(main())
