"""Those who ask: wrk for many small requests, Python for few big ones and for crowds."""
