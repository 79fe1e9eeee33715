/* nn.c - the ops of networks in Lua: q.nn. */
#include "bind/bind.h"
#include "bind/modules.h"
#include "kernel/kernel.h"

static int layer_norm(lua_State *L) { /* nn.layer_norm(x, weight, bias, eps = 1e-5, residual) */
  return bind_push_tensor(L, op_layer_norm_add(bind_tensor(L, 1), bind_opt_tensor(L, 2), bind_opt_tensor(L, 3), luaL_optnumber(L, 4, 1e-5),
                                               bind_opt_tensor(L, 5)));
}

static int rms_norm(lua_State *L) { /* nn.rms_norm(x, weight, eps = 1e-5, residual) */
  return bind_push_tensor(L, op_rms_norm_add(bind_tensor(L, 1), bind_opt_tensor(L, 2), luaL_optnumber(L, 3, 1e-5), bind_opt_tensor(L, 4)));
}

static int cross_entropy(lua_State *L) { /* nn.cross_entropy(logits, targets) */
  return bind_push_tensor(L, op_cross_entropy(bind_tensor(L, 1), bind_tensor(L, 2)));
}

static int rotary(lua_State *L) { /* nn.rotary(x, cosines, sines, rotated = width, interleaved = false) */
  Tensor *x = bind_tensor(L, 1);
  int64_t rotated = lua_isnoneornil(L, 4) ? x->shape[x->ndim > 0 ? x->ndim - 1 : 0] : bind_integer(L, 4, "rotated");
  return bind_push_tensor(L, op_rotary(x, bind_tensor(L, 2), bind_tensor(L, 3), rotated, lua_toboolean(L, 5)));
}

/* width, rotated, group = 1, turned = group, interleaved = false from argument at on */
static Heading heading(lua_State *L, int at) {
  Heading h = {.width = bind_integer(L, at, "width"), .rotated = bind_integer(L, at + 1, "rotated")};
  h.group = lua_isnoneornil(L, at + 2) ? 1 : bind_integer(L, at + 2, "group");
  h.turned = lua_isnoneornil(L, at + 3) ? h.group : bind_integer(L, at + 3, "turned");
  h.interleaved = lua_toboolean(L, at + 4);
  return h;
}

static int turn_heads(lua_State *L) { /* nn.turn_heads(x, cosines, sines, width, rotated, group, turned, interleaved) */
  return bind_push_tensor(L, op_turn_heads(bind_tensor(L, 1), bind_tensor(L, 2), bind_tensor(L, 3), heading(L, 4)));
}

static int linear_turned(lua_State *L) { /* nn.linear_turned(x, weight, bias, cosines, sines, width, rotated, group, turned, interleaved) */
  return bind_push_tensor(L, op_linear_turned(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3), bind_tensor(L, 4), bind_tensor(L, 5),
                                              heading(L, 6)));
}

static int linear_activated(lua_State *L) { /* nn.linear_activated(x, weight, bias, name) */
  return bind_push_tensor(L, op_linear_activated(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3), luaL_checkstring(L, 4)));
}

static int attention(lua_State *L) { /* nn.attention(q, k, v, scale, window = 0) */
  int64_t window = lua_isnoneornil(L, 5) ? 0 : bind_integer(L, 5, "window");
  return bind_push_tensor(L, op_attention(bind_tensor(L, 1), bind_tensor(L, 2), bind_tensor(L, 3), luaL_checknumber(L, 4), window));
}

static int dropout(lua_State *L) { /* nn.dropout(x, p, stream) */
  return bind_push_tensor(L, op_dropout(bind_tensor(L, 1), luaL_checknumber(L, 2), bind_stream(L, 3)));
}

static int conv1d(lua_State *L) { /* nn.conv1d(x, weight, bias) */
  return bind_push_tensor(L, op_conv1d(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3)));
}

static int scan(lua_State *L) { /* nn.scan(a, b, axis = 2) */
  Tensor *a = bind_tensor(L, 1), *b = bind_tensor(L, 2);
  return bind_push_tensor(L, op_scan(a, b, lua_isnoneornil(L, 3) ? 1 : bind_axis(L, 3, b)));
}

static int scatter_rows(lua_State *L) { /* nn.scatter_rows(rows, ids, n) */
  return bind_push_tensor(L, op_embedding_backward(bind_tensor(L, 1), bind_tensor(L, 2), bind_integer(L, 3, "number of rows")));
}

static int precision(lua_State *L) { /* nn.precision() -> name; nn.precision("bf16") -> the old one */
  static const char *const names[] = {[PRECISION_F32] = "f32", [PRECISION_BF16] = "bf16", NULL};
  Precision old = precision_get();
  if (!lua_isnoneornil(L, 1)) precision_set((Precision)luaL_checkoption(L, 1, NULL, names));
  return lua_pushstring(L, names[old]), 1;
}

static const luaL_Reg functions[] = {
  {"layer_norm", layer_norm}, {"rms_norm", rms_norm}, {"cross_entropy", cross_entropy}, {"rotary", rotary}, {"turn_heads", turn_heads},
  {"linear_turned", linear_turned}, {"linear_activated", linear_activated}, {"attention", attention},
  {"dropout", dropout}, {"conv1d", conv1d}, {"precision", precision}, {"scan", scan}, {"scatter_rows", scatter_rows}, {NULL, NULL},
};

int bind_open_nn(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
