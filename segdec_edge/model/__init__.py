"""SegDecNet, its layers, and its checkpoint as a Backend."""
