std = "luajit"
max_line_length = 150
globals = {"q"}
files["lua/quench/init.lua"] = {globals = {"__embedded"}}
ignore = {"212/_.*", "581"} -- 581: not (x > y) is how a NaN is caught
files["tests/e2e/*.lua"] = {globals = {"recipe"}}
files["recipes/*.lua"] = {globals = {"recipe"}}
