"""`.tflite` files: reading, running, describing them."""
