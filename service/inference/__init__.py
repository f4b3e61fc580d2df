"""From encoded images to poses: decoding, the networks as stages, and the pipelines that join them."""
