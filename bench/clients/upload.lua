-- wrk ... -- METHOD BEGIN NAMED: send 4 KiB that no request has in common with another; BEGIN is of
-- this run alone. NAMED is "/" where the server finds the name, else the client does.
local threads, count, filler = 0, 0, string.rep("x", 4096 - 32)

setup = function(thread)
  thread:set("begin", string.format("%08x", threads))
  threads = threads + 1
end

init = function(args)
  method, begin, named = args[1], args[2] .. begin, args[3]
end

request = function()
  count = count + 1
  local name = begin .. string.format("%016x", count)
  local target = named == "/" and "/" or "/" .. string.sub(name, -2) .. "/" .. name
  return wrk.format(method, target, nil, name .. filler)
end
