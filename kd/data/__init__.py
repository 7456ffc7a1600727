"""Sources, splits, packed datasets and views."""
