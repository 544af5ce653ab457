"""What is done to training images, with their labels, boxes or masks."""
