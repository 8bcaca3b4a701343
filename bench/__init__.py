"""filestored measured beside other servers; see docs/benchmarks.md."""
