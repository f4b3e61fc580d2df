"""The work of `posewire bench URL`: load on a deployment, what it took, and what to change."""
