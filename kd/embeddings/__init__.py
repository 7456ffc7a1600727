"""The cache of what teachers see."""
