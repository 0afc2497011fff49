"""Stages, one file each. The recipe that uses them is pipeline.py."""
