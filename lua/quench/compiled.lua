--- compiled(body): calls body with the JIT on. It is off otherwise, so that Ctrl-C works in plain loops:
-- bodies that run for long call system.check_interrupt() now and then.

local jit = require "jit"

return function(body)
  local was = jit.status()
  jit.on()
  local ok, message = pcall(body)
  if not was then jit.off() end
  if not ok then error(message, 0) end
end
