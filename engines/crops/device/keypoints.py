"""Decodes outputs on the device, so that only a position and a score per keypoint are copied back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engines.crops.device.peaks import blurred_peaks, find_peaks, refine_dark, refine_quarter, refine_udp
from engines.ops.flip import MIRRORED
from engines.ops.keypoint_decoding import HeatmapDecoder, KeypointDecoder, SimCCDecoder

_REFINE = {"quarter": refine_quarter, "dark": refine_dark, "udp": refine_udp}


def decode_keypoints(decoder: KeypointDecoder, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`decoder.decode` on the device: (n, K, 2) positions in input pixels and (n, K) scores, float32."""
    match decoder:
        case HeatmapDecoder():
            return _decode_heatmaps(decoder, outputs)
        case SimCCDecoder():
            x, y = (outputs[name].float() for name in decoder.names)
            (best_x, at_x), (best_y, at_y) = x.max(dim=-1), y.max(dim=-1)
            scores = torch.minimum(best_x, best_y)
            bins = torch.stack([at_x, at_y], dim=-1).float()
            return torch.where(scores[..., None] > 0, bins, -1.0) / decoder.split, scores


def _decode_heatmaps(decoder: HeatmapDecoder, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    name = next(iter(outputs))
    heatmaps = outputs[name].float()
    if decoder.pairs is not None:
        heatmaps = 0.5 * (heatmaps + _unmirrored(outputs[name + MIRRORED].float(), decoder))
    if decoder.refinement == "blurred":
        cells, values = blurred_peaks(heatmaps)
    else:
        peaks, values = find_peaks(heatmaps)
        cells = _REFINE[decoder.refinement](heatmaps, peaks)
    x, y = cells.unbind(dim=-1)  # scaled by Python numbers: copying an array to the device would wait for the network
    across, down = decoder.strides(heatmaps.shape[-1], heatmaps.shape[-2])
    return torch.stack([x * across, y * down], dim=-1), values * decoder.scale


def _unmirrored(maps: Tensor, decoder: HeatmapDecoder) -> Tensor:
    order = list(range(maps.shape[1]))
    for left, right in decoder.pairs or ():
        order[left], order[right] = right, left
    back = maps[:, order].flip(-1)
    return torch.cat([back[..., :1], back[..., :-1]], dim=-1) if decoder.shift else back
