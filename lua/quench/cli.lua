--- The command line: quench, quench FILE args, quench -e CODE, quench run|list|doctor|help.

local function run_chunk(chunk, ...)
  local arguments = {...}
  local ok, message = xpcall(function() return chunk(unpack(arguments)) end, function(e)
    return os.getenv("QUENCH_TRACE") and debug.traceback(e, 2) or tostring(e)
  end)
  if ok then return 0 end
  io.stderr:write("quench: ", tostring(message), "\n")
  return 1
end

return function(program, ...)
  local args = {...}
  _G.q = require "quench"
  if args[1] == "-e" then
    local chunk, message = loadstring(args[2] or "", "=(command line)")
    if not chunk then io.stderr:write("quench: ", message, "\n") return 1 end
    return run_chunk(chunk, select(3, ...))
  elseif args[1] then
    local chunk, message = loadfile(args[1])
    if not chunk then io.stderr:write("quench: ", message, "\n") return 1 end
    _G.arg = {[0] = args[1], select(2, ...)}
    return run_chunk(chunk, select(2, ...))
  end
  io.stderr:write("usage: ", program, " FILE | -e CODE\n")
  return 2
end
