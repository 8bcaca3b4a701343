"""HTTP/1.1 without I/O: bytes in, values and refusals out (floor 2)."""
