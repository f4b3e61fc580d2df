"""The work of `posewire batch`: whole archives of images and videos, in shards, on many processes or machines."""
