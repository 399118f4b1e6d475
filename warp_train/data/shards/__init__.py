"""Prepared caches: photos at the size that they are trained on, in tar shards as WebDataset's.

A folder with `cache.json`, and per shard a tar and a line a sample in a .jsonl beside it, which
says where in the tar its files are: any sample can be read at any time, so that the order of
training, and with it a resumed run, is that of a run from the photos themselves.
"""
