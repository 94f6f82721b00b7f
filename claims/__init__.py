"""The claims of the RepLKNet paper (arXiv:2203.06717) as experiments, one command for each: `python -m erf.claims`.

`catalogue` lists what the paper claims, and `claim` defines what an experiment is. The modules of `experiments` measure
one claim or a group of claims each.
"""
