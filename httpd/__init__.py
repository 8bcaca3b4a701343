"""filestored: a file-storage daemon. `docs/design.md` has the map of these floors."""
