"""Video jobs of a server: their store on disk, the process that works on each video, and the conversion of results."""
