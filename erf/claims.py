"""`python -m erf.claims`: the command of the `claims` package under the name of this tool."""

import runpy

if __name__ == "__main__":
    runpy.run_module("claims", run_name="__main__", alter_sys=True)
