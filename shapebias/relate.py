"""`python -m shapebias.relate`: the command of `htmlreport.relate`, a package above both tools."""

import runpy

if __name__ == "__main__":
    runpy.run_module("htmlreport.relate", run_name="__main__", alter_sys=True)
