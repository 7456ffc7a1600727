"""One small module per workflow rule."""
