"""`python -m infinity_mm`: the `imm` command."""

import sys

from infinity_mm.cli import main

sys.exit(main())
