-- wrk ... -- FILE [NAME VALUE]: ask for the targets in the lines of FILE by turns, with that field.
local requests, at = {}, 0

init = function(args)
  if args[2] then wrk.headers[args[2]] = args[3] end
  for target in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", target)
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end
