/* function.c - an op written in Lua: q.function{name=, forward=, vjp=, jvp=}.
 *
 * The node keeps references to the Lua functions and to a context table; the rules call
 * back through lua_pcall, so that an error in them becomes a Status and no jump crosses
 * the core. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"

typedef struct Callback {
  lua_State *L;
  int definition, context; /* references: the table given to q.function; the table `ctx` of this call */
} Callback;

static void free_callback(void *extra) {
  Callback *c = extra;
  luaL_unref(c->L, LUA_REGISTRYINDEX, c->definition);
  luaL_unref(c->L, LUA_REGISTRYINDEX, c->context);
  mem_free(c);
}

/* A new handle for t without draining the pool, which belongs to our caller. */
static void push_quietly(lua_State *L, Tensor *t) {
  Pool p = pool_open();
  if (t) bind_push_tensor(L, t);
  else lua_pushboolean(L, 0); /* zero */
  pool_close(p);
}

/* Runs the rule on the stack (function, ctx, list); its results, tensors or nil, go to out. Called protected. */
typedef struct Call {
  Node *node;
  const char *rule;
  int in_count, out_count;
  Tensor *const *in;
  Tensor **out;
} Call;

static int call_rule(lua_State *L) {
  Call *call = lua_touserdata(L, 1);
  Callback *c = call->node->attributes.extra;
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->definition);
  lua_getfield(L, -1, call->rule);
  if (lua_isnil(L, -1)) return luaL_error(L, "q.function '%s' has no %s", call->node->op->name, call->rule);
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->context);
  lua_createtable(L, call->node->inputs, 0);
  for (int i = 0; i < call->node->inputs; i++) push_quietly(L, call->node->in[i]), lua_rawseti(L, -2, i + 1);
  lua_setfield(L, -2, "inputs");
  push_quietly(L, node_output(call->node, 0));
  lua_setfield(L, -2, "output");
  for (int i = 0; i < call->in_count; i++) push_quietly(L, call->in[i]);
  lua_call(L, 1 + call->in_count, call->out_count);
  for (int i = 0; i < call->out_count; i++) {
    int at = i - call->out_count;
    if (lua_toboolean(L, at)) call->out[i] = pool_keep(tensor_retain(bind_tensor(L, lua_gettop(L) + 1 + at)));
  }
  return 0;
}

/* What a rule was given is not kept: the output leads back to the node, which keeps the context. */
static void clear_context(Callback *c) {
  lua_rawgeti(c->L, LUA_REGISTRYINDEX, c->context);
  lua_pushnil(c->L), lua_setfield(c->L, -2, "inputs");
  lua_pushnil(c->L), lua_setfield(c->L, -2, "output");
  lua_pop(c->L, 1);
}

static Status run_rule(Node *n, const char *rule, int in_count, Tensor *const *in, int out_count, Tensor **out) {
  Callback *c = n->attributes.extra;
  Call call = {n, rule, in_count, out_count, in, out};
  Pool p = pool_open();
  int status = lua_cpcall(c->L, call_rule, &call);
  clear_context(c);
  Tensor *kept[MAX_INPUTS];
  for (int i = 0; i < out_count; i++) kept[i] = status ? NULL : tensor_retain(out[i]);
  pool_close(p);
  for (int i = 0; i < out_count; i++) out[i] = pool_keep(kept[i]);
  if (status == 0) return OK;
  fail(ERR_ARGUMENT, "%s", lua_tostring(c->L, -1));
  lua_pop(c->L, 1);
  return error_code();
}

static Status function_vjp(Node *n, Tensor *const *g, Tensor **gin) { return run_rule(n, "vjp", 1, g, n->inputs, gin); }
static Status function_jvp(Node *n, Tensor *const *t, Tensor **tout) { return run_rule(n, "jvp", n->inputs, t, 1, tout); }

static const OpInfo function_op = {"function", -1, 1, "an op written in Lua", function_vjp, function_jvp, NULL, false};

/* apply(definition, ctx, y, inputs...) -> y with history: forward has been run by Lua (tensors.lua). */
static int apply(lua_State *L) {
  Tensor *in[MAX_INPUTS], *y = bind_tensor(L, 3);
  int n = lua_gettop(L) - 3;
  if (n < 1 || n > MAX_INPUTS) return luaL_error(L, "q.function: takes 1 to %d tensors, got %d", MAX_INPUTS, n);
  for (int i = 0; i < n; i++) in[i] = bind_tensor(L, i + 4);
  Callback *c = mem_calloc(1, sizeof *c);
  if (!c) return bind_raise(L);
  c->L = L;
  lua_pushvalue(L, 1), c->definition = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 2), c->context = luaL_ref(L, LUA_REGISTRYINDEX);
  Attributes a = {.extra = c, .free_extra = free_callback};
  Tensor *fresh;
  if (tensor_alias(y, &fresh) != OK || !pool_keep(fresh)) {
    free_callback(c);
    return bind_raise(L);
  }
  bind_check(L, graph_record(&function_op, n, in, 1, &fresh, &a));
  return bind_push_tensor(L, fresh);
}

/* fresh(fn, ...) -> what fn returns, a tensor, and whether that call is what made it. */
static int fresh(lua_State *L) {
  const uint64_t mark = graph_mark();
  lua_call(L, lua_gettop(L) - 1, 1);
  const Tensor *t = bind_is_tensor(L, 1) ? bind_tensor(L, 1) : NULL;
  lua_pushboolean(L, t && t->node && t->node->id >= mark);
  return 2;
}

static const luaL_Reg functions[] = {{"apply", apply}, {"fresh", fresh}, {NULL, NULL}};

int bind_open_function(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
