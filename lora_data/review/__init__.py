"""What a person decides, and the file that keeps it."""
