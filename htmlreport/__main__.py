"""`python -m htmlreport`."""

from htmlreport.command import main

raise SystemExit(main())
