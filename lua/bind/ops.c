/* ops.c - the operations in Lua: operators and methods of tensors, and functions of the module. */
#include <math.h>
#include <string.h>

#include "bind/bind.h"
#include "autograd/ops/ops.h"
#include "kernel/kernel.h"

/* --- operators: tensor with tensor, or with a number --- */

static int arithmetic(lua_State *L, Tensor *(*op)(Tensor *, Tensor *), Tensor *(*right)(Tensor *, double), Tensor *(*left)(double, Tensor *)) {
  if (bind_is_tensor(L, 1) && bind_is_tensor(L, 2)) return bind_push_tensor(L, op(bind_tensor(L, 1), bind_tensor(L, 2)));
  if (bind_is_tensor(L, 1)) return bind_push_tensor(L, right(bind_tensor(L, 1), luaL_checknumber(L, 2)));
  return bind_push_tensor(L, left(luaL_checknumber(L, 1), bind_tensor(L, 2)));
}

static Tensor *add_left(double c, Tensor *x) { return op_add_scalar(x, c); }
static Tensor *sub_right(Tensor *x, double c) { return op_add_scalar(x, -c); }
static Tensor *sub_left(double c, Tensor *x) { return op_add_scalar(op_neg(x), c); }
static Tensor *mul_left(double c, Tensor *x) { return op_mul_scalar(x, c); }
static Tensor *div_right(Tensor *x, double c) { return op_mul_scalar(x, 1 / c); }
static Tensor *div_left(double c, Tensor *x) { return op_mul_scalar(op_reciprocal(x), c); }
static Tensor *pow_left(double c, Tensor *x) { return op_exp(op_mul_scalar(x, log(c))); }

static int add(lua_State *L) { return arithmetic(L, op_add, op_add_scalar, add_left); }
static int sub(lua_State *L) { return arithmetic(L, op_sub, sub_right, sub_left); }
static int mul(lua_State *L) { return arithmetic(L, op_mul, op_mul_scalar, mul_left); }
static int div(lua_State *L) { return arithmetic(L, op_div, div_right, div_left); }
static int pow_(lua_State *L) { return arithmetic(L, op_pow, op_pow_scalar, pow_left); }
static int neg(lua_State *L) { return bind_push_tensor(L, op_neg(bind_tensor(L, 1))); }

/* A number where a tensor is expected: a scalar of the other operand's dtype. */
static Tensor *tensor_or_number(lua_State *L, int arg, const Tensor *like) {
  if (lua_type(L, arg) != LUA_TNUMBER) return bind_tensor(L, arg);
  Tensor *t;
  bind_check(L, tensor_scalar(like->dtype == I32 ? F64 : like->dtype, lua_tonumber(L, arg), &t));
  return pool_keep(t);
}

static int maximum(lua_State *L) {
  Tensor *a = bind_tensor(L, 1);
  return bind_push_tensor(L, op_maximum(a, tensor_or_number(L, 2, a)));
}
static int minimum(lua_State *L) {
  Tensor *a = bind_tensor(L, 1);
  return bind_push_tensor(L, op_minimum(a, tensor_or_number(L, 2, a)));
}

/* t:eq(other) ... t:ge(other): the relation's name is the upvalue */
static int compare(lua_State *L) {
  Tensor *a = bind_tensor(L, 1);
  return bind_push_tensor(L, op_compare(lua_tostring(L, lua_upvalueindex(1)), a, tensor_or_number(L, 2, a)));
}

/* t:exp() ...: the function's name is the upvalue */
static int unary(lua_State *L) { return bind_push_tensor(L, op_unary_named(lua_tostring(L, lua_upvalueindex(1)), bind_tensor(L, 1))); }

static int clamp(lua_State *L) {
  return bind_push_tensor(L, op_clamp(bind_tensor(L, 1), luaL_optnumber(L, 2, -INFINITY), luaL_optnumber(L, 3, INFINITY)));
}

static int where(lua_State *L) { /* q.where(condition, a, b) */
  Tensor *c = bind_tensor(L, 1);
  Tensor *like = bind_is_tensor(L, 2) ? bind_tensor(L, 2) : bind_is_tensor(L, 3) ? bind_tensor(L, 3) : c;
  return bind_push_tensor(L, op_where(c, tensor_or_number(L, 2, like), tensor_or_number(L, 3, like)));
}

/* --- shape --- */

static int sizes_from(lua_State *L, int first, int64_t *shape) {
  int n = 0, list = lua_istable(L, first), count = list ? (int)lua_objlen(L, first) : lua_gettop(L) - first + 1;
  if (count > MAX_DIMS) return luaL_error(L, "a tensor has at most %d axes", MAX_DIMS);
  for (int i = 0; i < count; i++) {
    if (list) lua_rawgeti(L, first, i + 1);
    else lua_pushvalue(L, first + i);
    shape[n++] = bind_integer(L, lua_gettop(L), "size");
    lua_pop(L, 1);
  }
  return n;
}

static int view(lua_State *L) {
  int64_t shape[MAX_DIMS];
  Tensor *t = bind_tensor(L, 1);
  int n = sizes_from(L, 2, shape);
  return bind_push_tensor(L, op_reshape(t, n, shape));
}

static int expand(lua_State *L) {
  int64_t shape[MAX_DIMS];
  Tensor *t = bind_tensor(L, 1);
  int n = sizes_from(L, 2, shape);
  return bind_push_tensor(L, op_expand(t, n, shape));
}

static int permute(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  int axes[MAX_DIMS];
  if (lua_gettop(L) - 1 != t->ndim) return luaL_error(L, "permute: needs an order of all %d axes of shape %s", t->ndim, shape_text(t));
  for (int i = 0; i < t->ndim; i++) axes[i] = bind_axis(L, i + 2, t);
  return bind_push_tensor(L, op_permute(t, axes));
}

static int transpose(lua_State *L) { /* t:t(), or t:transpose(a, b) */
  Tensor *t = bind_tensor(L, 1);
  if (!lua_isnoneornil(L, 2)) return bind_push_tensor(L, op_transpose(t, bind_axis(L, 2, t), bind_axis(L, 3, t)));
  if (t->ndim < 2) return luaL_error(L, "t: needs at least two axes, got shape %s", shape_text(t));
  return bind_push_tensor(L, op_transpose(t, -2, -1));
}

static int narrow(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  return bind_push_tensor(L, op_narrow(t, bind_axis(L, 2, t), bind_integer(L, 3, "start") - 1, bind_integer(L, 4, "length")));
}

static int select(lua_State *L) { /* t:select(axis, i): the axis goes */
  Tensor *t = bind_tensor(L, 1), *row;
  int axis = bind_axis(L, 2, t), n = 0;
  int64_t shape[MAX_DIMS], i = bind_integer(L, 3, "index");
  row = op_narrow(t, axis, i > 0 ? i - 1 : i + t->shape[axis], 1);
  for (int k = 0; k < t->ndim; k++)
    if (k != axis) shape[n++] = t->shape[k];
  return bind_push_tensor(L, op_reshape(row, n, shape));
}

static int pad(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  return bind_push_tensor(L, op_pad(t, bind_axis(L, 2, t), bind_integer(L, 3, "before"), bind_integer(L, 4, "after")));
}

static int split(lua_State *L) { /* t:split({sizes}, axis) -> pieces */
  Tensor *t = bind_tensor(L, 1), *out[MAX_OUTPUTS];
  int64_t sizes[MAX_DIMS];
  luaL_checktype(L, 2, LUA_TTABLE);
  int axis = bind_axis(L, 3, t);
  lua_settop(L, 2);
  int n = sizes_from(L, 2, sizes);
  bind_check(L, op_split(t, axis, n, sizes, out));
  for (int i = 0; i < n; i++) tensor_retain(out[i]); /* pushing the first drains the pool */
  for (int i = 0; i < n; i++) bind_push_tensor(L, out[i]), tensor_release(out[i]);
  return n;
}

static int concat(lua_State *L) { /* q.concat({a, b, ...}, axis) */
  Tensor **x;
  int n = bind_tensor_list(L, 1, &x);
  if (n == 0) return luaL_error(L, "concat: the list is empty");
  return bind_push_tensor(L, op_concat(n, x, lua_isnoneornil(L, 2) ? 0 : bind_axis(L, 2, x[0])));
}

static int stack(lua_State *L) { /* q.stack({a, b, ...}): a new first axis */
  Tensor **x, *rows[MAX_INPUTS];
  int n = bind_tensor_list(L, 1, &x);
  if (n == 0 || n > MAX_INPUTS) return luaL_error(L, "stack: takes 1 to %d tensors, got %d", MAX_INPUTS, n);
  for (int i = 0; i < n; i++) {
    int64_t shape[MAX_DIMS] = {1};
    memcpy(shape + 1, x[i]->shape, sizeof shape - sizeof *shape);
    if (!(rows[i] = op_reshape(x[i], x[i]->ndim + 1, shape))) return bind_raise(L);
  }
  return bind_push_tensor(L, op_concat(n, rows, 0));
}

static int contiguous(lua_State *L) { return bind_push_tensor(L, op_contiguous(bind_tensor(L, 1))); }
static int detach(lua_State *L) { return bind_push_tensor(L, op_detach(bind_tensor(L, 1))); }

static int clone(lua_State *L) { /* own memory, no history */
  Tensor *t = bind_tensor(L, 1), *copy;
  bind_check(L, tensor_cast(t, t->dtype, &copy));
  return bind_push_tensor(L, pool_keep(copy));
}

static int to(lua_State *L) { /* t:to("f64") */
  DType d;
  Tensor *t = bind_tensor(L, 1);
  bind_check(L, dtype_parse(luaL_checkstring(L, 2), &d));
  return bind_push_tensor(L, op_cast(t, d));
}

/* --- reductions: t:sum(axis?, keep?) --- */

static int reduction(lua_State *L, Tensor *(*op)(Tensor *, int, bool)) {
  Tensor *t = bind_tensor(L, 1);
  int axis = lua_isnoneornil(L, 2) ? ALL_AXES : bind_axis(L, 2, t);
  return bind_push_tensor(L, op(t, axis, lua_toboolean(L, 3)));
}
static int sum(lua_State *L) { return reduction(L, op_sum); }
static int mean(lua_State *L) { return reduction(L, op_mean); }
static int max(lua_State *L) { return reduction(L, op_max); }
static int min(lua_State *L) { return reduction(L, op_min); }
static int argmax(lua_State *L) { return reduction(L, op_argmax); }
static int kth(lua_State *L) { /* t:kth(k): k from 1, along the last axis */
  Tensor *t = bind_tensor(L, 1);
  return bind_push_tensor(L, op_kth(t, bind_integer(L, 2, "k") - 1));
}
static int median(lua_State *L) { /* along the last axis; of an even count the lower middle one */
  Tensor *t = bind_tensor(L, 1);
  return bind_push_tensor(L, op_kth(t, t->ndim ? (t->shape[t->ndim - 1] - 1) / 2 : 0));
}
static int logsumexp(lua_State *L) { return reduction(L, op_logsumexp); }

static int along_axis(lua_State *L, Tensor *(*op)(Tensor *, int)) {
  Tensor *t = bind_tensor(L, 1);
  if (t->ndim == 0) return luaL_error(L, "a single number has no axis to run along");
  return bind_push_tensor(L, op(t, lua_isnoneornil(L, 2) ? -1 : bind_axis(L, 2, t)));
}
static int softmax(lua_State *L) { return along_axis(L, op_softmax); }
static int log_softmax(lua_State *L) { return along_axis(L, op_log_softmax); }
static int cumsum(lua_State *L) { return along_axis(L, op_cumsum); }

/* Euclidean norm of all elements, summed in double: a number. */
static int norm(lua_State *L) {
  Tensor *t = op_dense(op_detach(bind_tensor(L, 1)));
  if (t && !dtype_is_real(t->dtype)) t = op_cast(t, F64);
  if (!t) return bind_raise(L);
  lua_pushnumber(L, sqrt(kernels_for(t)->dot(tensor_numel(t), tensor_data(t), tensor_data(t))));
  pool_drain();
  return 1;
}

/* Inner product of all elements, summed in double: a number. */
static int dot(lua_State *L) {
  Tensor *a = bind_tensor(L, 1), *b = bind_tensor(L, 2);
  if (!tensor_same_shape(a, b) || a->dtype != b->dtype || !dtype_is_real(a->dtype))
    return luaL_error(L, "dot: %s %s and %s %s differ", dtype_name(a->dtype), shape_text(a), dtype_name(b->dtype), shape_text(b));
  Tensor *x = op_dense(op_detach(a)), *y = op_dense(op_detach(b));
  if (!x || !y) return bind_raise(L);
  lua_pushnumber(L, kernels_for(x)->dot(tensor_numel(x), tensor_data(x), tensor_data(y)));
  pool_drain();
  return 1;
}

static int all_finite(lua_State *L) {
  Tensor *t = op_dense(op_detach(bind_tensor(L, 1)));
  if (!t) return bind_raise(L);
  lua_pushboolean(L, !dtype_is_real(t->dtype) || kernels_for(t)->all_finite(tensor_numel(t), tensor_data(t)));
  pool_drain();
  return 1;
}

/* --- products, indexing, networks --- */

static int matmul(lua_State *L) { return bind_push_tensor(L, op_matmul(bind_tensor(L, 1), bind_tensor(L, 2))); }
static int linear(lua_State *L) { /* q.linear(x, weight, bias, residual) */
  return bind_push_tensor(L, op_linear_add(bind_tensor(L, 1), bind_tensor(L, 2), bind_opt_tensor(L, 3), bind_opt_tensor(L, 4)));
}
static int embedding(lua_State *L) { return bind_push_tensor(L, op_embedding(bind_tensor(L, 1), bind_tensor(L, 2))); }
static int pick(lua_State *L) { return bind_push_tensor(L, op_pick(bind_tensor(L, 1), bind_tensor(L, 2))); }

/* --- gradients --- */

static int requires_grad(lua_State *L) { /* t:requires_grad(on = true) -> t */
  Tensor *t = bind_tensor(L, 1);
  if (t->node) return luaL_error(L, "requires_grad: this tensor is the result of an operation; only leaves can be switched");
  if (!dtype_is_real(t->dtype)) return luaL_error(L, "requires_grad: dtype %s has no gradients", dtype_name(t->dtype));
  t->requires_grad = lua_isnone(L, 2) || lua_toboolean(L, 2);
  lua_settop(L, 1);
  return 1;
}

static int needs_grad(lua_State *L) { return lua_pushboolean(L, tensor_needs_grad(bind_tensor(L, 1))), 1; }

static int backward(lua_State *L) { /* loss:backward{gradient=, retain=} */
  lua_settop(L, 2); /* what is missing is nil then, here and below */
  Tensor *loss = bind_tensor(L, 1), *g = NULL;
  int retain = 0;
  if (bind_options(L, 2, "backward", (const char *const[]){"gradient", "retain", NULL})) {
    retain = bind_field_boolean(L, 2, "retain", 0);
    lua_getfield(L, 2, "gradient");
    g = bind_opt_tensor(L, lua_gettop(L));
  }
  Status s = graph_backward(loss, g, retain);
  pool_drain();
  bind_check(L, s);
  return 0;
}

static int push_list(lua_State *L, int n, Tensor **t) {
  for (int i = 0; i < n; i++) tensor_retain(t[i]); /* pushing the first drains the pool */
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    if (!t[i]) continue;
    bind_push_tensor(L, t[i]);
    tensor_release(t[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* One tensor or a list of them at arg. */
static int one_or_list(lua_State *L, int arg, Tensor ***out) {
  if (!bind_is_tensor(L, arg)) return bind_tensor_list(L, arg, out);
  *out = lua_newuserdata(L, sizeof(Tensor *));
  **out = bind_tensor(L, arg);
  return 1;
}

static int grad(lua_State *L) { /* q.grad(loss, {w, ...}, {create_graph=, gradient=}) -> {gradients} */
  lua_settop(L, 3);
  Tensor **out, **in, *g = NULL;
  int outs = one_or_list(L, 1, &out), ins = one_or_list(L, 2, &in), create = 0;
  if (bind_options(L, 3, "grad", (const char *const[]){"create_graph", "gradient", NULL})) {
    create = bind_field_boolean(L, 3, "create_graph", 0);
    lua_getfield(L, 3, "gradient");
    g = bind_opt_tensor(L, lua_gettop(L));
  }
  if (outs != 1) return luaL_error(L, "grad: one output expected, got %d", outs);
  Tensor **results = lua_newuserdata(L, sizeof(Tensor *) * (size_t)(ins + 1));
  bind_check(L, graph_grad(outs, out, g ? &g : NULL, ins, in, create, results));
  return push_list(L, ins, results);
}

static int jvp(lua_State *L) { /* q.jvp({outputs}, {inputs}, {tangents}) -> {tangents of the outputs} */
  Tensor **out, **in, **tin;
  int outs = one_or_list(L, 1, &out), ins = one_or_list(L, 2, &in), tins = one_or_list(L, 3, &tin);
  if (ins != tins) return luaL_error(L, "jvp: %d inputs and %d tangents", ins, tins);
  Tensor **results = lua_newuserdata(L, sizeof(Tensor *) * (size_t)(outs + 1));
  bind_check(L, graph_jvp(outs, out, ins, in, tin, true, results));
  return push_list(L, outs, results);
}

/* --- Hessian-vector products --- */

static const char HVP_CACHE[] = "quench.hvp_cache";

static HvpCache **cache_at(lua_State *L, int arg) { return luaL_checkudata(L, arg, HVP_CACHE); }

static int hvp_cache(lua_State *L) { /* q.hvp_cache(loss, {share=}) -> cache */
  lua_settop(L, 2);
  const bool given = bind_options(L, 2, "hvp_cache", (const char *const[]){"share", NULL});
  const double share = given ? bind_field_number(L, 2, "share", 0.375) : 0.375;
  if (!(share >= 0)) return luaL_error(L, "hvp_cache: share must be 0 or more, got %f", share);
  HvpCache **c = lua_newuserdata(L, sizeof *c);
  *c = NULL;
  luaL_getmetatable(L, HVP_CACHE);
  lua_setmetatable(L, -2);
  bind_check(L, hvp_cache_new(bind_tensor(L, 1), share, c));
  return 1;
}

static int cache_collect(lua_State *L) {
  HvpCache **c = cache_at(L, 1);
  hvp_cache_free(*c), *c = NULL;
  return 0;
}

static int cache_bytes(lua_State *L) { return lua_pushnumber(L, (double)hvp_cache_bytes(*cache_at(L, 1))), 1; }

static int cache_print(lua_State *L) { return lua_pushfstring(L, "gradients that Hessian-vector products share, %f bytes", (double)hvp_cache_bytes(*cache_at(L, 1))), 1; }

static const luaL_Reg cache_methods[] = {{"bytes", cache_bytes}, {"__gc", cache_collect}, {"__tostring", cache_print}, {NULL, NULL}};

static void cache_type(lua_State *L) {
  luaL_newmetatable(L, HVP_CACHE);
  luaL_register(L, NULL, cache_methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

/* The cache on top. */
static HvpCache *cache_option(lua_State *L) {
  HvpCache **c = luaL_testudata(L, -1, HVP_CACHE);
  if (!c) luaL_error(L, "hvp: cache must be a q.hvp_cache, got %s", luaL_typename(L, -1));
  return *c;
}

static int hvp(lua_State *L) { /* q.hvp(loss, {inputs}, {tangents}, {retain=, cache=}) -> {tangents of the gradients} */
  lua_settop(L, 4);
  Tensor **out, **in, **tin;
  HvpCache *cache = NULL;
  int outs = one_or_list(L, 1, &out), ins = one_or_list(L, 2, &in), tins = one_or_list(L, 3, &tin), retain = 0;
  if (bind_options(L, 4, "hvp", (const char *const[]){"retain", "cache", NULL})) {
    retain = bind_field_boolean(L, 4, "retain", 0);
    lua_getfield(L, 4, "cache");
    if (!lua_isnil(L, -1)) cache = cache_option(L);
  }
  if (outs != 1) return luaL_error(L, "hvp: one output expected, got %d", outs);
  if (ins != tins) return luaL_error(L, "hvp: %d inputs and %d tangents", ins, tins);
  Tensor **results = lua_newuserdata(L, sizeof(Tensor *) * (size_t)(ins + 1));
  bind_check(L, graph_hvp(out[0], ins, in, tin, retain, cache, results));
  return push_list(L, ins, results);
}

/* no_grad(fn, ...), with_grad(fn, ...): calls fn with recording off or on, whatever happens inside. */
static int with_recording(lua_State *L, bool on) {
  luaL_checkany(L, 1);
  bool was = grad_enable(on);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  grad_enable(was);
  return status ? lua_error(L) : lua_gettop(L);
}
static int no_grad(lua_State *L) { return with_recording(L, false); }
static int with_grad(lua_State *L) { return with_recording(L, true); }
static int is_recording(lua_State *L) { return lua_pushboolean(L, grad_enabled()), 1; }

static int op_list(lua_State *L) { /* q.ops() -> list of {name=, doc=, inputs=} */
  lua_newtable(L);
  for (int i = 0; op_table[i]; i++) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, op_table[i]->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, op_table[i]->doc), lua_setfield(L, -2, "doc");
    lua_pushinteger(L, op_table[i]->inputs), lua_setfield(L, -2, "inputs");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const luaL_Reg methods[] = {
  {"__add", add}, {"__sub", sub}, {"__mul", mul}, {"__div", div}, {"__pow", pow_}, {"__unm", neg}, {"pow", pow_},
  {"maximum", maximum}, {"minimum", minimum}, {"clamp", clamp}, {"view", view}, {"reshape", view}, {"expand", expand}, {"permute", permute},
  {"t", transpose}, {"transpose", transpose}, {"narrow", narrow}, {"select", select}, {"pad", pad}, {"split", split},
  {"contiguous", contiguous}, {"detach", detach}, {"clone", clone}, {"to", to}, {"sum", sum}, {"mean", mean}, {"max", max}, {"min", min},
  {"argmax", argmax}, {"kth", kth}, {"median", median}, {"logsumexp", logsumexp}, {"softmax", softmax}, {"log_softmax", log_softmax}, {"cumsum", cumsum}, {"norm", norm},
  {"dot", dot}, {"all_finite", all_finite}, {"matmul", matmul}, {"linear", linear}, {"pick", pick},
  {"requires_grad", requires_grad}, {"needs_grad", needs_grad}, {"backward", backward}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
  {"where", where}, {"concat", concat}, {"stack", stack}, {"embedding", embedding}, {"linear", linear}, {"matmul", matmul},
  {"grad", grad}, {"jvp", jvp}, {"hvp", hvp}, {"hvp_cache", hvp_cache}, {"no_grad", no_grad}, {"with_grad", with_grad}, {"is_recording", is_recording}, {"ops", op_list}, {NULL, NULL},
};

void bind_add_ops(lua_State *L) {
  static const char *const relations[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  static const char *const named[] = {"abs", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "log", "log1p", "sin", "cos",
                                      "tanh", "sigmoid", "softplus", "erf", "relu", "relu2", "silu", "gelu", "gelu_tanh", "floor", "ceil",
                                      "round", "isnan", "isfinite"};
  luaL_register(L, NULL, methods);
  for (size_t i = 0; i < sizeof named / sizeof *named; i++)
    lua_pushstring(L, named[i]), lua_pushcclosure(L, unary, 1), lua_setfield(L, -2, named[i]);
  for (size_t i = 0; i < sizeof relations / sizeof *relations; i++)
    lua_pushstring(L, relations[i]), lua_pushcclosure(L, compare, 1), lua_setfield(L, -2, relations[i]);
}

void bind_add_functions(lua_State *L) {
  cache_type(L);
  luaL_register(L, NULL, functions);
}
