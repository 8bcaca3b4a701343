"""When bytes move: the listeners, the loop, and one connection (floor 3)."""
