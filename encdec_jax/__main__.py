"""`python -m encdec_jax`: the same as `encdec`."""

import sys

from encdec_jax.cli.main import main

sys.exit(main())
