-- Sizes and times for people.
local tap = dofile "tests/tap.lua"
local units = require "quench.units"

tap.test("sizes", function(t)
  for _, n in ipairs{0, 24, 999, 1000, 99900, 123456, 1048576, 12e6, 1.5e9} do -- a tensor's header says the same of its bytes
    if n % 4 == 0 and n < 2e7 then
      t.equal(units.bytes(n), tostring(q.zeros(n / 4)):match("%) (%S+ %a+)"), "as tensors print " .. n)
    end
  end
  t.equal(units.bytes(1.5e9), "1.5 GB", "large")
end)

tap.test("times", function(t)
  for text, s in pairs{["0 us"] = 0, ["12.35 us"] = 12.3456e-6, ["45.27 ms"] = 0.045267, ["90 s"] = 90, ["2.5 minutes"] = 150, ["2.5 hours"] = 9000,
    ["30 hours"] = 108000, ["10 days"] = 864000, ["76.05 years"] = 2.4e9} do
    t.equal(units.seconds(s), text, text)
  end
  t.equal(units.seconds(2.4e9, 2), "76 years", "two digits")
  t.equal(units.seconds(2.4e11, 2), "7605 years", "or all of a whole number")
end)

tap.done()
