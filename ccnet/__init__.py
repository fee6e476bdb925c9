"""Semantic segmentation with recurrent criss-cross attention (CCNet, arXiv:1811.11721)."""

import os

# albumentations asks a package index for its newest version at import unless told otherwise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"
