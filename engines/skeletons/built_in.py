"""The built-in skeletons."""

from types import MappingProxyType

from engines.skeletons.animals import AP10K_17
from engines.skeletons.bodies import BLAZEPOSE_33, COCO_17, HALPE_26, MPII_16, OPENPOSE_25, POSETRACK_15
from engines.skeletons.whole_bodies import COCO_WHOLEBODY_133, FACE_68, HAND_21, HANDS_42

SKELETONS = MappingProxyType({
    skeleton.name: skeleton
    for skeleton in (
        *(COCO_17, POSETRACK_15, BLAZEPOSE_33, HALPE_26, MPII_16, OPENPOSE_25),
        *(COCO_WHOLEBODY_133, HAND_21, HANDS_42, FACE_68, AP10K_17),
    )
})  # fmt: skip
"""The built-in skeletons by name. A catalogue has those of its files, too."""
