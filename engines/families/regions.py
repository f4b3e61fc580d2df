"""The regions of a frame to crop for networks."""

from __future__ import annotations

from engines.poses import Detections, Region

PADDING = 1.25
"""The size of the region relative to the person (Simple Baselines, section 4.1; every top-down model since)."""


def letterbox(frame_width: int, frame_height: int, width: int, height: int, *, centred: bool = False) -> Region:
    """The smallest region with the input's aspect that contains the whole frame, at its top left or centred on it."""
    scale = max(frame_width / width, frame_height / height)
    region_width, region_height = width * scale, height * scale
    if centred:
        return Region(frame_width / 2, frame_height / 2, region_width, region_height)
    return Region(region_width / 2, region_height / 2, region_width, region_height)


def person_regions(people: Detections, width: int, height: int, padding: float = PADDING) -> list[Region]:
    """The boxes of `people`, extended to the aspect of a network's input (width : height) and padded on all sides."""
    x1, y1, x2, y2 = people.boxes.T.astype(float)
    aspect = width / height
    widths = (x2 - x1).clip(min=(y2 - y1) * aspect).clip(min=1.0) * padding
    return [
        Region(cx, cy, w, w / aspect)
        for cx, cy, w in zip(((x1 + x2) / 2).tolist(), ((y1 + y2) / 2).tolist(), widths.tolist(), strict=True)
    ]


def with_outer_pixels_at_edges(region: Region, width: int, height: int) -> Region:
    """The region whose crop has the centres of its outermost pixels on the edges of `region`.

    That is how networks with unbiased data processing (UDP; Huang et al., 2020, section 3.2) are trained; other crops
    have their first pixel on the edge and the last one a pixel before it. width, height: of the input.
    """
    pixel_x, pixel_y = region.width / (width - 1), region.height / (height - 1)
    return Region(
        region.center_x + pixel_x / 2, region.center_y + pixel_y / 2, pixel_x * width, pixel_y * height, region.rotation
    )
