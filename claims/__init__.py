"""The claims of the RepLKNet paper (arXiv:2203.06717) as experiments, one command for each: `python -m erf.claims`.

`catalogue` says what the paper claims, `claim` what an experiment is; every other module measures one claim or a group.
"""
