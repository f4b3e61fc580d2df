"""From encoded images to poses: the decode stage, the networks as stages, and the pipelines that join them."""
