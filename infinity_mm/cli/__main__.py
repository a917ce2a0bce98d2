"""`python -m infinity_mm.cli`: the `imm` command."""

import sys

from infinity_mm.cli import main

if __name__ == "__main__":
    sys.exit(main())
