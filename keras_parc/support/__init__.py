"""What any room may use: files, images, timing, progress."""
