"""``scgpt-infer serve``: the engine behind HTTP.

One process watches over the others (`supervisor`); each open model has a process of its own, a seat (`seat`); front
ends (`front`) speak HTTP and hand cells to the seats. Nothing outside this package knows of it but the command line.
"""
