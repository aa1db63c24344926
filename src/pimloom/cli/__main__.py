"""`python -m pimloom.cli`."""

import sys

from pimloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
