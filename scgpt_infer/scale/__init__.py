"""One job on several workers: processes of this machine, or actors of a Ray cluster.

A worker opens cells and model itself and writes parts itself; only paths, ranges of rows and marks travel.
`crew` hands ranges out and collects marks, whatever carries them; `processes` and `actors` do.
"""
