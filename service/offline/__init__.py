"""Images, videos and archives on disk, processed by the pipelines that also serve HTTP."""
