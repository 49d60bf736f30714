"""Whole files as jobs: an upload becomes a folder, a server that shares it does the work, and results lie there.

`store` keeps the folders, `loop` looks for work, `turn` has a process do it, `runner`, which asks the model's process
for vectors by `remote`.
"""
