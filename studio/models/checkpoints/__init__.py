"""Checkpoints of base models: what a file or folder holds, checked before its tensors are read."""
