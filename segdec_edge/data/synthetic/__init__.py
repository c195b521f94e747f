"""The synthetic parts maker: textured parts with defects, rough masks and harmless marks, deterministic by seed."""

from segdec_edge.data.synthetic.parts import SyntheticSample, synthetic_samples

__all__ = ["SyntheticSample", "synthetic_samples"]
