"""The long tier: whole data sets and full-size models, resumable, each result a JSON file.

`python -m tests.verify` runs what has no result yet; names choose, `--force` repeats, `--list` tells.
"""
