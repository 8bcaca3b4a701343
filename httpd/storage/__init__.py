"""Blobs by digest: `contract` says what a storage does, `local` keeps them on a file system."""
