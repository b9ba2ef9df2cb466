"""``python -m gateway.cli``: what the supervisor starts services with."""

import sys

from gateway.cli import main

sys.exit(main())
