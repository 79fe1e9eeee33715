/* nn.c - the operations of networks in Lua: norms, loss, rotary embedding, attention, dropout, convolution. */
#include "bind/bind.h"
#include "bind/modules.h"

static int layer_norm(lua_State *L) { /* (x, weight?, bias?, eps) */
  return bind_push_tensor(L, op_layer_norm(bind_tensor(L, 1), bind_opt_tensor(L, 2), bind_opt_tensor(L, 3), luaL_optnumber(L, 4, 1e-5)));
}

static int rms_norm(lua_State *L) { /* (x, weight?, eps) */
  return bind_push_tensor(L, op_rms_norm(bind_tensor(L, 1), bind_opt_tensor(L, 2), luaL_optnumber(L, 3, 1e-6)));
}

static int cross_entropy(lua_State *L) { return bind_push_tensor(L, op_cross_entropy(bind_tensor(L, 1), bind_tensor(L, 2))); }

static int rotary(lua_State *L) { /* (x, cosines, sines, rotated, interleaved?) */
  Tensor *x = bind_tensor(L, 1), *c = bind_tensor(L, 2), *s = bind_tensor(L, 3);
  return bind_push_tensor(L, op_rotary(x, c, s, bind_integer(L, 4, "rotated"), lua_toboolean(L, 5)));
}

static int attention(lua_State *L) { /* (q, k, v, scale, window?) */
  Tensor *q = bind_tensor(L, 1), *k = bind_tensor(L, 2), *v = bind_tensor(L, 3);
  return bind_push_tensor(L, op_attention(q, k, v, luaL_checknumber(L, 4), lua_isnoneornil(L, 5) ? 0 : bind_integer(L, 5, "window")));
}

static int dropout(lua_State *L) { /* (x, p, stream) */
  return bind_push_tensor(L, op_dropout(bind_tensor(L, 1), luaL_checknumber(L, 2), bind_stream(L, 3)));
}

static int conv1d(lua_State *L) { /* (x, weight, bias?) */
  return bind_push_tensor(L, op_conv1d(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3)));
}

static const luaL_Reg functions[] = {
  {"layer_norm", layer_norm}, {"rms_norm", rms_norm}, {"cross_entropy", cross_entropy}, {"rotary", rotary}, {"attention", attention},
  {"dropout", dropout}, {"conv1d", conv1d}, {NULL, NULL},
};

int bind_open_nn(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
