/* bind.h - what the binding files share. A binding is check -> call -> push.
 *
 * Rules: bindings hold no arithmetic; core functions hold no Lua. Memory that the
 * core hands over goes into a userdata before anything that may raise. */
#ifndef quench_bind_h
#define quench_bind_h

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "autograd/op.h"
#include "base/buffer.h"
#include "base/status.h"
#include "tensor/tensor.h"

/* Raises the recorded error, with the user's position in front; closes nothing. */
int bind_raise(lua_State *L);
/* Raises if s is not OK. */
void bind_check(lua_State *L, Status s);

/* --- tensors (bind/tensor.c) --- */
Tensor *bind_tensor(lua_State *L, int arg);         /* a tensor argument, or an argument error */
Tensor *bind_opt_tensor(lua_State *L, int arg);     /* nil or absent gives NULL */
int bind_is_tensor(lua_State *L, int arg);
/* Pushes a new Lua reference to t and drains the pool level; t == NULL raises the recorded error. */
int bind_push_tensor(lua_State *L, Tensor *t);
/* A Lua list of tensors at arg. Returns the count; *out is a userdata buffer left on the stack. */
int bind_tensor_list(lua_State *L, int arg, Tensor ***out);

Random *bind_stream(lua_State *L, int arg);         /* a random stream, q.stream(seed, name) */
void bind_add_ops(lua_State *L);                    /* ops.c: methods into the table at the top */
void bind_add_functions(lua_State *L);              /* ops.c: functions into the table at the top */

/* --- options: fields of a table at arg --- */
/* Whether there is one. An error of `what`: something else than a table or nothing, and a name that is not in the list, which ends with NULL. */
bool bind_options(lua_State *L, int arg, const char *what, const char *const *names);
double bind_field_number(lua_State *L, int arg, const char *key, double otherwise);
int64_t bind_field_integer(lua_State *L, int arg, const char *key, int64_t otherwise);
int bind_field_boolean(lua_State *L, int arg, const char *key, int otherwise);
const char *bind_field_string(lua_State *L, int arg, const char *key, const char *otherwise);

int64_t bind_integer(lua_State *L, int arg, const char *what); /* a whole number, or an argument error */
int bind_axis(lua_State *L, int arg, const Tensor *t);          /* 1-based (negative from the end) to 0-based */

/* --- bytes on their way to Lua (bind/text.c) --- */
Buffer *bind_new_buffer(lua_State *L);           /* an empty buffer that Lua frees, left on the stack */
int bind_push_buffer(lua_State *L, Buffer *b);   /* its content as a string; the buffer is emptied */

/* --- modules: name, opener; listed in bind/modules.c --- */
typedef struct BindModule {
  const char *name; /* as in require: "quench.c.tensor" */
  lua_CFunction open;
} BindModule;
extern const BindModule bind_modules[];

#endif
