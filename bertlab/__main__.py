"""`python -m bertlab` is `bertlab`; torchrun starts the processes of a run this way."""

import sys

from bertlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
