"""nsr: the experiments of Neural Sparse Representation for Image Restoration (NeurIPS 2020)."""

__version__ = "0.1.0"
