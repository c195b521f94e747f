"""segdec-edge: from a folder of pictures with rough masks to a station that flags defective parts."""

__version__ = "0.1.0"
