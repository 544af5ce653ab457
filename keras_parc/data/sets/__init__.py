"""Data sets with a builder of their own, one file each."""
