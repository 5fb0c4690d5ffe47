"""Wire formats without I/O: bytes in, frozen values out, and back."""
