"""Entry point for `python -m erf.claims`, which runs the command of the package `claims`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("claims", run_name="__main__", alter_sys=True)
