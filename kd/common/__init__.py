"""What every package uses: errors, option classes, random streams."""
