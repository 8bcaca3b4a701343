-- What wrk tells at its end: one line for a program, times in microseconds.
done = function(summary, latency)
  local errors = summary.errors
  local told = {
    requests = summary.requests, duration = summary.duration,
    failed = errors.connect + errors.read + errors.write + errors.timeout, refused = errors.status,
    p50 = latency:percentile(50), p99 = latency:percentile(99), p999 = latency:percentile(99.9),
  }
  io.write("told:")
  for name, value in pairs(told) do io.write(string.format(" %s=%.0f", name, value)) end
  io.write("\n")
end
