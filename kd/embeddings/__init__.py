"""The cache: what teachers see, computed, encoded, stored and read again."""
