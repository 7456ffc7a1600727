"""What a backbone is: one file each."""
