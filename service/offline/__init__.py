"""Images, videos and archives on disk, through the same pipelines that serve HTTP."""
