"""Poses in the forms that programs exchange: Posewire's own JSON, COCO results, OpenPose, PoseTrack, CSV."""
