"""`python -m erf.claims`."""

from erf.claims.command import main

raise SystemExit(main())
