"""The tools for the device, `tools`, as the installed package has them; serving and packing them.

`tools` is the folder `tflite/` of the repository: a link there, the files themselves in a wheel.
"""
