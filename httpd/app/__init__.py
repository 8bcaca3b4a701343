"""What a request means: the table of routes, and one resource a file (floor 3)."""
