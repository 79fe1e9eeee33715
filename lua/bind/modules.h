/* modules.h - the openers of the binding files. */
#ifndef quench_modules_h
#define quench_modules_h

#include <lua.h>

int bind_open_tensor(lua_State *L);
int bind_open_function(lua_State *L);
int bind_open_nn(lua_State *L);
int bind_open_system(lua_State *L);
int bind_open_quant(lua_State *L);
int bind_open_machine(lua_State *L);
int bind_open_optim(lua_State *L);
int bind_open_linalg(lua_State *L);
int bind_open_io(lua_State *L);
int bind_open_json(lua_State *L);
int bind_open_linalg(lua_State *L);
int bind_open_text(lua_State *L);
int bind_open_plot(lua_State *L);
int bind_open_repl(lua_State *L);
int bind_open_tokenizer(lua_State *L);

#endif
