"""`python -m erf.claims`."""

from claims.command import main

raise SystemExit(main())
