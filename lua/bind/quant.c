/* quant.c - number formats and the quantizers of one weight. */
#include <string.h>

#include "bind/bind.h"
#include "bind/modules.h"
#include "quant/quant.h"

static const char *const FORMAT = "quench.format";

static Format *format_arg(lua_State *L, int arg) { return luaL_checkudata(L, arg, FORMAT); }

/* Pushes an empty format for a core function to fill. */
static Format *new_format(lua_State *L) {
  Format *f = lua_newuserdata(L, sizeof *f);
  memset(f, 0, sizeof *f);
  luaL_getmetatable(L, FORMAT);
  lua_setmetatable(L, -2);
  return f;
}

static int named(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  bind_check(L, format_named(name, new_format(L)));
  return 1;
}

static int integer(lua_State *L) {
  int bits = (int)bind_integer(L, 1, "bits");
  const char *convention = luaL_checkstring(L, 2);
  bind_check(L, format_int(bits, convention, new_format(L)));
  return 1;
}

static int gaussian(lua_State *L) {
  int bits = (int)bind_integer(L, 1, "bits");
  bind_check(L, format_gaussian(bits, new_format(L)));
  return 1;
}

/* A list of numbers at arg, at most MAX_LEVELS; the count may be larger, for the core to refuse. */
static int number_list(lua_State *L, int arg, double *out) {
  luaL_checktype(L, arg, LUA_TTABLE);
  int n = (int)lua_objlen(L, arg);
  for (int i = 0; i < n && i < MAX_LEVELS; i++) {
    lua_rawgeti(L, arg, i + 1);
    if (lua_type(L, -1) != LUA_TNUMBER) luaL_argerror(L, arg, lua_pushfstring(L, "entry %d must be a number", i + 1));
    out[i] = lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return n;
}

static int levels(lua_State *L) { /* name, levels, steps or nil, reach */
  double level[MAX_LEVELS], step[MAX_LEVELS];
  const char *name = luaL_checkstring(L, 1);
  int n = number_list(L, 2, level);
  if (lua_isnoneornil(L, 3)) {
    bind_check(L, format_levels(name, n, level, new_format(L)));
  } else {
    if (number_list(L, 3, step) != n - 1) return luaL_argerror(L, 3, "one step less than levels");
    double reach = luaL_checknumber(L, 4);
    bind_check(L, format_staircase(name, n, level, step, reach, new_format(L)));
  }
  return 1;
}

/* f:with{group=, clip=, search=, search_steps=, norm=, scale=, power=}: a changed copy. group: 0 a row, -1 the tensor. */
static int with(lua_State *L) {
  const Format *from = format_arg(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  Format *f = new_format(L);
  *f = *from;
  f->group = bind_field_integer(L, 2, "group", f->group);
  f->clip = bind_field_number(L, 2, "clip", f->clip);
  f->search = (int)bind_field_integer(L, 2, "search", f->search);
  f->search_steps = (int)bind_field_integer(L, 2, "search_steps", f->search_steps);
  f->norm = bind_field_number(L, 2, "norm", f->norm);
  const char *store = bind_field_string(L, 2, "scale", NULL), *power = bind_field_string(L, 2, "power", NULL);
  if (store) bind_check(L, format_store_parse(store, &f->store));
  if (power) bind_check(L, format_power_parse(power, &f->power));
  bind_check(L, format_check(f));
  return 1;
}

static void push_numbers(lua_State *L, int n, const double *x) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) lua_pushnumber(L, x[i]), lua_rawseti(L, -2, i + 1);
}

static int format_describe(lua_State *L) {
  const Format *f = format_arg(L, 1);
  lua_createtable(L, 0, 12);
  lua_pushstring(L, f->name), lua_setfield(L, -2, "name");
  lua_pushnumber(L, f->bits), lua_setfield(L, -2, "bits");
  lua_pushnumber(L, (double)f->group), lua_setfield(L, -2, "group");
  lua_pushnumber(L, f->grid.reach), lua_setfield(L, -2, "reach");
  lua_pushnumber(L, f->clip), lua_setfield(L, -2, "clip");
  lua_pushnumber(L, f->factor), lua_setfield(L, -2, "factor");
  lua_pushnumber(L, format_scale_bits(f)), lua_setfield(L, -2, "scale_bits");
  lua_pushinteger(L, f->search), lua_setfield(L, -2, "search");
  lua_pushnumber(L, f->norm), lua_setfield(L, -2, "norm");
  lua_pushstring(L, format_store_name(f)), lua_setfield(L, -2, "scale");
  lua_pushstring(L, format_power_name(f)), lua_setfield(L, -2, "power");
  if (f->grid.kind == GRID_LEVELS) push_numbers(L, f->grid.count, f->grid.level), lua_setfield(L, -2, "levels");
  if (f->grid.own_steps) push_numbers(L, f->grid.count - 1, f->grid.step), lua_setfield(L, -2, "steps");
  return 1;
}

static int bits_per_weight(lua_State *L) {
  lua_pushnumber(L, format_bits(format_arg(L, 1), bind_integer(L, 2, "rows"), bind_integer(L, 3, "cols")));
  return 1;
}

static int level_list(lua_State *L) {
  enum { ROOM = 1024 };
  double level[ROOM];
  int n = format_level_list(format_arg(L, 1), ROOM, level);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) lua_pushnumber(L, level[i]), lua_rawseti(L, -2, i + 1);
  return 1;
}

static int format_text(lua_State *L) {
  const Format *f = format_arg(L, 1);
  if (f->group > 0) lua_pushfstring(L, "%s, group %d", f->name, (int)f->group);
  else lua_pushfstring(L, "%s, per %s", f->name, f->group == GROUP_ROW ? "row" : "tensor");
  return 1;
}

static int format_list(lua_State *L) { /* the table of formats: list of {name, meaning} */
  lua_newtable(L);
  for (int i = 0; format_name(i); i++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, format_name(i)), lua_rawseti(L, -2, 1);
    lua_pushstring(L, format_doc(i)), lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* --- methods --- */

/* Sets field key of the table at the top to the tensor, and gives our reference up. */
static void hand_tensor(lua_State *L, const char *key, Tensor *t) {
  if (!t) return;
  bind_push_tensor(L, t);
  tensor_release(t);
  lua_setfield(L, -2, key);
}

/* Pushes the value and a table of the rest. */
static int push_quantized(lua_State *L, Quantized *q) {
  lua_createtable(L, 0, 12);
  hand_tensor(L, "scale", q->scale);
  hand_tensor(L, "zero", q->zero);
  hand_tensor(L, "codes", q->codes);
  hand_tensor(L, "extra", q->extra);
  hand_tensor(L, "group_index", q->group_index);
  lua_pushnumber(L, q->mse), lua_setfield(L, -2, "mse");
  lua_pushnumber(L, q->bits), lua_setfield(L, -2, "bits");
  bind_push_tensor(L, q->value);
  tensor_release(q->value);
  lua_insert(L, -2);
  return 2;
}

static int quant_rtn(lua_State *L) { /* w, format, stream or nil, codes */
  Quantized q;
  Random *random = lua_isnoneornil(L, 3) ? NULL : bind_stream(L, 3);
  bind_check(L, rtn(format_arg(L, 2), bind_tensor(L, 1), random, lua_toboolean(L, 4), &q));
  return push_quantized(L, &q);
}

static int quant_hessian_add(lua_State *L) {
  bind_check(L, hessian_add(bind_tensor(L, 1), bind_tensor(L, 2)));
  return 0;
}

static int quant_hessian_finish(lua_State *L) {
  bind_check(L, hessian_finish(bind_tensor(L, 1), bind_integer(L, 2, "tokens")));
  return 0;
}

static int quant_diagonal(lua_State *L) {
  Tensor *d;
  bind_check(L, hessian_diagonal(bind_tensor(L, 1), &d));
  return bind_push_tensor(L, pool_keep(d));
}

static int quant_drift_add(lua_State *L) {
  bind_check(L, drift_add(bind_tensor(L, 1), bind_tensor(L, 2), bind_tensor(L, 3)));
  return 0;
}

static const char *const orders[] = {"plain", "activation", "grouped", NULL};

static int quant_gptq(lua_State *L) { /* w, hessian, drift or nil, format, {order=, static_groups=, damp=, damp_increment=, block=, drift=} */
  Quantized q;
  GptqReport r;
  GptqOptions o = {.format = *format_arg(L, 4)};
  luaL_checktype(L, 5, LUA_TTABLE);
  lua_getfield(L, 5, "order");
  o.order = (GptqOrder)luaL_checkoption(L, -1, "plain", orders);
  o.static_groups = bind_field_boolean(L, 5, "static_groups", 0);
  o.damp = bind_field_number(L, 5, "damp", 0.01);
  o.damp_increment = bind_field_number(L, 5, "damp_increment", 0);
  o.block = (int)bind_field_integer(L, 5, "block", 128);
  o.drift = bind_field_number(L, 5, "drift", 0.25);
  bind_check(L, gptq(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3), &o, &q, &r));
  push_quantized(L, &q);
  lua_pushnumber(L, r.loss), lua_setfield(L, -2, "loss");
  lua_pushnumber(L, r.damp), lua_setfield(L, -2, "damp");
  lua_pushnumber(L, (double)r.dead), lua_setfield(L, -2, "dead");
  lua_pushnumber(L, r.pivot), lua_setfield(L, -2, "pivot");
  return 2;
}

static int quant_hqq(lua_State *L) { /* w, {bits=, group=, iterations=, p=, beta=} */
  Quantized q;
  int iterations;
  luaL_checktype(L, 2, LUA_TTABLE);
  HqqOptions o = {.bits = (int)bind_field_integer(L, 2, "bits", 4), .group = bind_field_integer(L, 2, "group", 64),
                  .iterations = (int)bind_field_integer(L, 2, "iterations", 20), .p = bind_field_number(L, 2, "p", 0.7),
                  .beta = bind_field_number(L, 2, "beta", 10)};
  bind_check(L, hqq(bind_tensor(L, 1), &o, &q, &iterations));
  push_quantized(L, &q);
  lua_pushnumber(L, iterations), lua_setfield(L, -2, "iterations");
  return 2;
}

static int quant_fake(lua_State *L) { /* x, format, trust or nil -> value, mask, scale */
  Quantized q;
  Tensor *mask;
  bind_check(L, fake_quant(format_arg(L, 2), bind_tensor(L, 1), luaL_optnumber(L, 3, 0), &q, &mask));
  tensor_release(q.zero), tensor_release(q.extra);
  bind_push_tensor(L, q.value), tensor_release(q.value);
  bind_push_tensor(L, mask), tensor_release(mask);
  bind_push_tensor(L, q.scale), tensor_release(q.scale);
  return 3;
}

static int quant_fake_with(lua_State *L) { /* x, format, scale -> value, mask */
  Tensor *value, *mask;
  bind_check(L, fake_quant_with(format_arg(L, 2), bind_tensor(L, 1), bind_tensor(L, 3), &value, &mask));
  bind_push_tensor(L, value), tensor_release(value);
  bind_push_tensor(L, mask), tensor_release(mask);
  return 2;
}

static Tensor *field_tensor(lua_State *L, int arg, const char *key) { /* stays alive in the table */
  lua_getfield(L, arg, key);
  Tensor *t = bind_opt_tensor(L, lua_gettop(L));
  lua_pop(L, 1);
  return t;
}

static int quant_pack(lua_State *L) { /* value, format, report {scale=, zero=, extra=, group_index=} -> {codes=, scale=, ...} */
  luaL_checktype(L, 3, LUA_TTABLE);
  Quantized q = {.value = bind_tensor(L, 1), .scale = field_tensor(L, 3, "scale"), .zero = field_tensor(L, 3, "zero"),
                 .extra = field_tensor(L, 3, "extra"), .group_index = field_tensor(L, 3, "group_index")};
  if (!q.scale || !q.zero) return luaL_argerror(L, 3, "a report with scale and zero");
  Packed p;
  bind_check(L, pack(format_arg(L, 2), &q, &p));
  lua_createtable(L, 0, 6);
  hand_tensor(L, "codes", p.codes);
  hand_tensor(L, "scale", p.scale);
  hand_tensor(L, "zero", p.zero);
  hand_tensor(L, "extra", p.extra);
  hand_tensor(L, "group_index", p.group_index);
  return 1;
}

static int quant_unpack(lua_State *L) { /* parts, format, shape -> value */
  luaL_checktype(L, 1, LUA_TTABLE);
  Packed p = {.codes = field_tensor(L, 1, "codes"), .scale = field_tensor(L, 1, "scale"), .zero = field_tensor(L, 1, "zero"),
              .extra = field_tensor(L, 1, "extra"), .group_index = field_tensor(L, 1, "group_index")};
  double sizes[MAX_LEVELS];
  int64_t shape[MAX_DIMS];
  int ndim = number_list(L, 3, sizes);
  if (ndim > MAX_DIMS) return luaL_argerror(L, 3, "too many axes");
  for (int i = 0; i < ndim; i++) shape[i] = (int64_t)sizes[i];
  Tensor *value;
  bind_check(L, unpack(format_arg(L, 2), ndim, shape, &p, &value));
  return bind_push_tensor(L, pool_keep(value));
}

static int quant_hadamard(lua_State *L) { /* x, block or nil, transpose */
  int64_t block = lua_isnoneornil(L, 2) ? 0 : bind_integer(L, 2, "block");
  return bind_push_tensor(L, op_hadamard(bind_tensor(L, 1), block, lua_toboolean(L, 3)));
}

static int quant_surrogate(lua_State *L) { /* value, {x, ...}, {partial, ...} */
  Tensor **x, **partial;
  Tensor *value = bind_tensor(L, 1);
  int count = bind_tensor_list(L, 2, &x);
  if (bind_tensor_list(L, 3, &partial) != count) return luaL_argerror(L, 3, "as many derivatives as inputs");
  return bind_push_tensor(L, op_surrogate(value, count, x, partial));
}

static const luaL_Reg methods[] = {
  {"with", with}, {"describe", format_describe}, {"bits_per_weight", bits_per_weight}, {"levels", level_list}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
  {"named", named}, {"integer", integer}, {"gaussian", gaussian}, {"levels", levels}, {"format_list", format_list},
  {"rtn", quant_rtn}, {"hessian_add", quant_hessian_add}, {"hessian_finish", quant_hessian_finish}, {"diagonal", quant_diagonal}, {"drift_add", quant_drift_add},
  {"gptq", quant_gptq}, {"hqq", quant_hqq},
  {"fake", quant_fake}, {"fake_with", quant_fake_with}, {"hadamard", quant_hadamard}, {"pack", quant_pack}, {"unpack", quant_unpack}, {"surrogate", quant_surrogate}, {NULL, NULL},
};

int bind_open_quant(lua_State *L) {
  luaL_newmetatable(L, FORMAT);
  lua_pushliteral(L, "format"), lua_setfield(L, -2, "__name");
  lua_pushcfunction(L, format_text), lua_setfield(L, -2, "__tostring");
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
