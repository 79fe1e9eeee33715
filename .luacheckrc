std = "luajit"
max_line_length = 140
globals = {"q"}
ignore = {"212/_.*"}
files["recipes/*.lua"] = {globals = {"recipe"}}
