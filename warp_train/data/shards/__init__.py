"""Prepared caches: photos at training size in tar shards, in the format of WebDataset.

A cache is a folder with `cache.json` and the shards. A shard is a tar and a .jsonl index with one
line per sample, which contains the positions of the sample's files in the tar. Samples can be read
in any order, so a run from a cache, resumed or not, uses the same order of samples as a run from
the photos themselves.
"""
