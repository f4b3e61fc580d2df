"""File formats of poses: Posewire's own JSON, COCO, OpenPose, PoseTrack and CSV."""
