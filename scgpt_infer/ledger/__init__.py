"""Which ranges of rows are done, kept on the disk part by part: resume, retry and shards are one idea.

`lock` lets one process alone be at work.
"""
