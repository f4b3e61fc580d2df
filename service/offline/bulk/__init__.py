"""What `posewire batch` does: whole archives of images and videos, in shards, on many processes or machines."""
