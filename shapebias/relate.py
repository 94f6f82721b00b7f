"""`python -m shapebias.relate`: runs the command `htmlreport.relate`, of a package that uses both tools."""

import runpy

if __name__ == "__main__":
    runpy.run_module("htmlreport.relate", run_name="__main__", alter_sys=True)
