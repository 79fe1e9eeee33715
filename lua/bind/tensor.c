/* tensor.c - tensors in Lua: creation, geometry, printing, data, and collector pressure.
 * The operations are bound in ops.c. */
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "kernel/kernel.h"

static const char *const TENSOR = "quench.tensor";

typedef struct Handle { Tensor *t; } Handle;

/* --- collector pressure ---
 * Lua sees a handle of a few bytes where the core holds megabytes. When live bytes pass
 * a soft limit, the whole garbage goes; if that did not help, the limit grows. */

static size_t soft_limit = (size_t)128 << 20;

static void relieve_pressure(lua_State *L) {
  if (mem_stats().live < soft_limit) return;
  lua_gc(L, LUA_GCCOLLECT, 0);
  size_t live = mem_stats().live, floor = (size_t)128 << 20;
  soft_limit = live + live / 2 > floor ? live + live / 2 : floor;
}

/* --- handles --- */

int bind_is_tensor(lua_State *L, int arg) {
  if (!lua_isuserdata(L, arg) || !lua_getmetatable(L, arg)) return 0;
  lua_getfield(L, LUA_REGISTRYINDEX, TENSOR);
  int same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

Tensor *bind_tensor(lua_State *L, int arg) {
  if (!bind_is_tensor(L, arg)) luaL_argerror(L, arg, lua_pushfstring(L, "a tensor expected, got %s", luaL_typename(L, arg)));
  Handle *h = lua_touserdata(L, arg);
  if (!h->t) luaL_argerror(L, arg, "this tensor was freed (by its scope or :free())");
  return h->t;
}

Tensor *bind_opt_tensor(lua_State *L, int arg) { return lua_isnoneornil(L, arg) ? NULL : bind_tensor(L, arg); }

int bind_push_tensor(lua_State *L, Tensor *t) {
  if (!t) return bind_raise(L);
  tensor_retain(t);
  pool_drain();
  Handle *h = lua_newuserdata(L, sizeof *h); /* Lua out of memory here would cost one tensor: accepted */
  h->t = t;
  luaL_getmetatable(L, TENSOR);
  lua_setmetatable(L, -2);
  lua_getfield(L, LUA_REGISTRYINDEX, "quench.scope"); /* the innermost scope notes what was made in it */
  if (lua_istable(L, -1)) lua_pushvalue(L, -2), lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
  lua_pop(L, 1);
  relieve_pressure(L);
  return 1;
}

int bind_tensor_list(lua_State *L, int arg, Tensor ***out) {
  luaL_checktype(L, arg, LUA_TTABLE);
  int n = (int)lua_objlen(L, arg);
  *out = lua_newuserdata(L, sizeof(Tensor *) * (size_t)(n + 1));
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, arg, i + 1);
    if (!bind_is_tensor(L, -1)) luaL_argerror(L, arg, lua_pushfstring(L, "entry %d must be a tensor, it is a %s", i + 1, luaL_typename(L, -1)));
    (*out)[i] = bind_tensor(L, lua_gettop(L));
    lua_pop(L, 1);
  }
  return n;
}

/* t:free(): drops the handle's reference at once; the handle is dead afterwards. */
static int free_handle(lua_State *L) {
  Handle *h = luaL_checkudata(L, 1, TENSOR);
  tensor_release(h->t);
  h->t = NULL;
  return 0;
}

static int is_freed(lua_State *L) {
  lua_pushboolean(L, ((Handle *)luaL_checkudata(L, 1, TENSOR))->t == NULL);
  return 1;
}

/* --- creation --- */

static DType dtype_arg(lua_State *L, int arg, DType otherwise) {
  DType d = otherwise;
  if (!lua_isnoneornil(L, arg)) bind_check(L, dtype_parse(luaL_checkstring(L, arg), &d));
  return d;
}

/* Sizes from first on: numbers, or one list; then an optional dtype. */
static int shape_args(lua_State *L, int first, int64_t *shape, DType *d) {
  int n = 0, top = lua_gettop(L);
  if (lua_istable(L, first)) {
    n = (int)lua_objlen(L, first);
    if (n > MAX_DIMS) luaL_error(L, "a tensor has at most %d axes", MAX_DIMS);
    for (int i = 0; i < n; i++) lua_rawgeti(L, first, i + 1), shape[i] = bind_integer(L, lua_gettop(L), "size"), lua_pop(L, 1);
    first++;
  } else {
    while (first <= top && lua_type(L, first) == LUA_TNUMBER) {
      if (n == MAX_DIMS) luaL_error(L, "a tensor has at most %d axes", MAX_DIMS);
      shape[n++] = bind_integer(L, first++, "size");
    }
  }
  if (d) *d = dtype_arg(L, first, *d);
  return n;
}

static int make(lua_State *L, double value) {
  int64_t shape[MAX_DIMS];
  DType d = F32;
  int n = shape_args(L, 1, shape, &d);
  Tensor *t;
  bind_check(L, tensor_new(d, n, shape, &t));
  if (!pool_keep(t)) return bind_raise(L);
  bind_check(L, tensor_fill(t, value));
  return bind_push_tensor(L, t);
}
static int zeros(lua_State *L) { return make(L, 0); }
static int ones(lua_State *L) { return make(L, 1); }

static int full(lua_State *L) {
  double v = luaL_checknumber(L, 1);
  lua_remove(L, 1);
  return make(L, v);
}

static int empty_like(lua_State *L) {
  Tensor *t;
  bind_check(L, tensor_like(bind_tensor(L, 1), &t));
  return bind_push_tensor(L, pool_keep(t));
}

static int arange(lua_State *L) {
  double a = luaL_checknumber(L, 1), start = 0, end = a, step = 1;
  int dtype_at = 2;
  if (lua_type(L, 2) == LUA_TNUMBER) start = a, end = lua_tonumber(L, 2), dtype_at = 3;
  if (lua_type(L, 3) == LUA_TNUMBER) step = lua_tonumber(L, 3), dtype_at = 4;
  DType d = dtype_arg(L, dtype_at, F32);
  if (!(step != 0)) return luaL_error(L, "arange: step must not be 0");
  double count = ceil((end - start) / step);
  if (!(count < 1e12)) return luaL_error(L, "arange: from %f to %f by %f is no sensible range", start, end, step);
  int64_t n = count > 0 ? (int64_t)count : 0;
  Tensor *t;
  bind_check(L, tensor_new(d == F64 ? F64 : d == I32 ? F64 : F32, 1, &n, &t));
  if (!pool_keep(t)) return bind_raise(L);
  kernels_for(t)->arange(tensor_data(t), n, start, step);
  return bind_push_tensor(L, op_cast(t, d));
}

/* The shape of a nested list, read along its first entries. */
static int nested_shape(lua_State *L, int64_t *shape) {
  int n = 0;
  lua_pushvalue(L, 1);
  while (lua_istable(L, -1)) {
    if (n == MAX_DIMS) luaL_error(L, "tensor: the list is nested more than %d deep", MAX_DIMS);
    shape[n++] = (int64_t)lua_objlen(L, -1);
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  lua_pop(L, 1);
  return n;
}

/* Copies the list at the top of the stack into out; ragged lists and other values raise. */
static void read_nested(lua_State *L, int depth, int ndim, const int64_t *shape, double **out) {
  if (depth == ndim) {
    if (lua_type(L, -1) != LUA_TNUMBER) luaL_error(L, "tensor: the lists must hold numbers only, found a %s", luaL_typename(L, -1));
    *(*out)++ = lua_tonumber(L, -1);
    return;
  }
  if (!lua_istable(L, -1) || (int64_t)lua_objlen(L, -1) != shape[depth])
    luaL_error(L, "tensor: lists of different lengths at depth %d (expected %d entries)", depth + 1, (int)shape[depth]);
  for (int64_t i = 1; i <= shape[depth]; i++) {
    lua_rawgeti(L, -1, (int)i);
    read_nested(L, depth + 1, ndim, shape, out);
    lua_pop(L, 1);
  }
}

static int tensor(lua_State *L) {
  if (bind_is_tensor(L, 1)) return bind_push_tensor(L, op_cast(op_detach(bind_tensor(L, 1)), dtype_arg(L, 2, bind_tensor(L, 1)->dtype)));
  int64_t shape[MAX_DIMS], n = 1;
  if (!lua_istable(L, 1)) luaL_checknumber(L, 1);
  int ndim = nested_shape(L, shape);
  DType d = dtype_arg(L, 2, F32);
  for (int i = 0; i < ndim; i++) n *= shape[i];
  double *values = lua_newuserdata(L, sizeof(double) * (size_t)(n + 1)), *end = values;
  lua_pushvalue(L, 1);
  read_nested(L, 0, ndim, shape, &end);
  Tensor *source, *t;
  bind_check(L, tensor_wrap(F64, ndim, shape, values, sizeof(double) * (size_t)(n + 1), NULL, NULL, &source));
  source->storage->release = mem_free; /* of NULL: the values belong to Lua */
  Status s = tensor_cast(source, d, &t);
  tensor_release(source);
  bind_check(L, s);
  return bind_push_tensor(L, pool_keep(t));
}

/* --- random streams --- */

static const char *const STREAM = "quench.stream";

static int stream(lua_State *L) { /* stream(seed, name) */
  Random *r = lua_newuserdata(L, sizeof *r);
  *r = random_stream((uint64_t)bind_integer(L, 1, "seed"), luaL_optstring(L, 2, "default"));
  luaL_getmetatable(L, STREAM);
  lua_setmetatable(L, -2);
  return 1;
}

Random *bind_stream(lua_State *L, int arg) { return luaL_checkudata(L, arg, STREAM); }

static int stream_uniform(lua_State *L) { return lua_pushnumber(L, random_uniform(bind_stream(L, 1))), 1; }
static int stream_normal(lua_State *L) { return lua_pushnumber(L, random_normal(bind_stream(L, 1))), 1; }
static int stream_below(lua_State *L) {
  int64_t n = bind_integer(L, 2, "n");
  if (n < 1) return luaL_argerror(L, 2, "must be at least 1");
  return lua_pushnumber(L, (double)random_below(bind_stream(L, 1), (uint64_t)n)), 1;
}
static int stream_counter(lua_State *L) { /* s:counter() reads, s:counter(n) sets */
  Random *r = bind_stream(L, 1);
  if (!lua_isnoneornil(L, 2)) r->counter = (uint64_t)bind_integer(L, 2, "counter");
  return lua_pushnumber(L, (double)r->counter), 1;
}
static int stream_clone(lua_State *L) {
  Random *from = bind_stream(L, 1), *r = lua_newuserdata(L, sizeof *r);
  *r = *from;
  luaL_getmetatable(L, STREAM);
  lua_setmetatable(L, -2);
  return 1;
}

/* t:uniform_(stream, low, high), t:normal_(stream, mean, deviation): fills in place */
static int fill_random(lua_State *L, Status (*fill)(Tensor *, Random *, double, double), double a, double b) {
  bind_check(L, fill(bind_tensor(L, 1), bind_stream(L, 2), luaL_optnumber(L, 3, a), luaL_optnumber(L, 4, b)));
  lua_settop(L, 1);
  return 1;
}
static int uniform_(lua_State *L) { return fill_random(L, tensor_fill_uniform, 0, 1); }
static int normal_(lua_State *L) { return fill_random(L, tensor_fill_normal, 0, 1); }

/* --- reading and geometry --- */

static int shape(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  lua_createtable(L, t->ndim, 0);
  for (int i = 0; i < t->ndim; i++) lua_pushnumber(L, (double)t->shape[i]), lua_rawseti(L, -2, i + 1);
  return 1;
}

static int size(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) return shape(L);
  return lua_pushnumber(L, (double)t->shape[bind_axis(L, 2, t)]), 1;
}

static int dtype(lua_State *L) { return lua_pushstring(L, dtype_name(bind_tensor(L, 1)->dtype)), 1; }
static int ndim(lua_State *L) { return lua_pushinteger(L, bind_tensor(L, 1)->ndim), 1; }
static int numel(lua_State *L) { return lua_pushnumber(L, (double)tensor_numel(bind_tensor(L, 1))), 1; }
static int is_contiguous(lua_State *L) { return lua_pushboolean(L, tensor_contiguous(bind_tensor(L, 1))), 1; }
static int nbytes(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  return lua_pushnumber(L, (double)tensor_numel(t) * (double)dtype_bytes(t->dtype)), 1;
}

static int item(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  if (tensor_numel(t) != 1) return luaL_error(L, "item: a tensor of shape %s is not a single number", shape_text(t));
  double v;
  bind_check(L, tensor_get(t, (int64_t[MAX_DIMS]){0}, &v));
  return lua_pushnumber(L, v), 1;
}

/* t:data(): address of the first element (FFI casts it) of dense memory. */
static int data(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  if (!tensor_contiguous(t)) return luaL_error(L, "data: shape %s is a strided view; call :contiguous() first", shape_text(t));
  tensor_touch(t); /* the pointer may be written through */
  return lua_pushlightuserdata(L, tensor_data(t)), 1;
}

static void push_nested(lua_State *L, const Tensor *t, int axis, int64_t at) {
  if (axis == t->ndim) {
    lua_pushnumber(L, kernel_read(t->dtype, (char *)tensor_data(t) + at * (int64_t)dtype_bytes(t->dtype)));
    return;
  }
  lua_createtable(L, (int)t->shape[axis], 0);
  for (int64_t i = 0; i < t->shape[axis]; i++) push_nested(L, t, axis + 1, at + i * t->stride[axis]), lua_rawseti(L, -2, (int)i + 1);
}

static int totable(lua_State *L) {
  luaL_checkstack(L, MAX_DIMS + 4, "totable");
  push_nested(L, bind_tensor(L, 1), 0, 0);
  return 1;
}

/* How wide the terminal is that results go to; 0 elsewhere, so that a file does not depend on a window. */
static int columns(void) {
  struct winsize w;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

static int tostring(lua_State *L) {
  Handle *h = luaL_checkudata(L, 1, TENSOR);
  if (!h->t) return lua_pushliteral(L, "tensor (freed)"), 1;
  char *text = lua_newuserdata(L, 1 << 15);
  size_t n = tensor_print(h->t, columns(), text, 1 << 15);
  return lua_pushlstring(L, text, n < (1 << 15) ? n : (1 << 15) - 1), 1;
}

/* --- in place --- */

static Tensor *writable(lua_State *L, const char *op) {
  Tensor *t = bind_tensor(L, 1);
  if (t->node && grad_enabled()) luaL_error(L, "%s: this tensor is the result of a recorded operation; use no_grad or a fresh tensor", op);
  if (t->requires_grad && grad_enabled()) luaL_error(L, "%s: this tensor requires a gradient; change it inside no_grad", op);
  return t;
}

static int fill_(lua_State *L) {
  bind_check(L, tensor_fill(writable(L, "fill_"), luaL_checknumber(L, 2)));
  lua_settop(L, 1);
  return 1;
}

static int copy_(lua_State *L) {
  bind_check(L, tensor_copy(writable(L, "copy_"), bind_tensor(L, 2)));
  lua_settop(L, 1);
  return 1;
}

/* t:axpby_(a, x, b): t <- a t + b x, the in-place work horse (optimizers, averages) */
static int axpby_(lua_State *L) {
  Tensor *t = writable(L, "axpby_"), *x = bind_tensor(L, 3);
  double a = luaL_checknumber(L, 2), b = luaL_optnumber(L, 4, 1);
  if (!tensor_same_shape(t, x) || t->dtype != x->dtype || !dtype_is_real(t->dtype))
    return luaL_error(L, "axpby_: %s %s and %s %s differ", dtype_name(t->dtype), shape_text(t), dtype_name(x->dtype), shape_text(x));
  Loop l;
  loop_make(&l, 3, (Tensor *[]){t, t, x});
  kernels_for(t)->multiply_add(&l, a, b);
  tensor_touch(t);
  lua_settop(L, 1);
  return 1;
}

/* --- indexing: t[i] is a view (a number for the last axis), t[i] = value writes --- */

static int64_t index_arg(lua_State *L, const Tensor *t) {
  int64_t i = bind_integer(L, 2, "index");
  if (t->ndim == 0) luaL_error(L, "a single number cannot be indexed");
  if (i < 1 || i > t->shape[0]) luaL_error(L, "index %d out of range 1 .. %d of shape %s", (int)i, (int)t->shape[0], shape_text(t));
  return i - 1;
}

static int index_(lua_State *L) {
  if (lua_type(L, 2) != LUA_TNUMBER) { /* a method or .grad */
    lua_getmetatable(L, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1) && lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "grad") == 0) {
      Tensor *g = bind_tensor(L, 1)->grad;
      return g ? bind_push_tensor(L, g) : 1;
    }
    return 1;
  }
  Tensor *t = bind_tensor(L, 1);
  int64_t i = index_arg(L, t);
  Tensor *row = op_narrow(t, 0, i, 1);
  row = row ? op_reshape(row, t->ndim - 1, t->shape + 1) : NULL;
  if (!row || t->ndim > 1 || (grad_enabled() && tensor_needs_grad(t))) return bind_push_tensor(L, row);
  double v;
  bind_check(L, tensor_get(row, NULL, &v));
  pool_drain();
  return lua_pushnumber(L, v), 1;
}

static int newindex(lua_State *L) {
  Tensor *t = bind_tensor(L, 1);
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "grad") == 0) {
    Tensor *g = bind_opt_tensor(L, 3);
    if (g && (!tensor_same_shape(g, t) || g->dtype != t->dtype))
      return luaL_error(L, "grad: %s %s does not fit a tensor %s %s", dtype_name(g->dtype), shape_text(g), dtype_name(t->dtype), shape_text(t));
    tensor_retain(g);
    tensor_release(t->grad);
    t->grad = g;
    return 0;
  }
  if (lua_type(L, 2) != LUA_TNUMBER) return luaL_error(L, "a tensor has no field '%s'", lua_tostring(L, 2));
  writable(L, "t[i] = value");
  int64_t i = index_arg(L, t);
  Tensor *row = op_narrow(op_detach(t), 0, i, 1);
  if (!row) return bind_raise(L);
  bind_check(L, bind_is_tensor(L, 3) ? tensor_copy(row, bind_tensor(L, 3)) : tensor_fill(row, luaL_checknumber(L, 3)));
  pool_drain();
  return 0;
}

/* --- scopes --- */

/* scope_begin() -> the outer scope's list (or nil); scope_end(outer, keep...) frees all made since, but for keep. */
static int scope_begin(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "quench.scope");
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, "quench.scope");
  return 1;
}

static void keep_value(lua_State *L, int value, int kept) {
  if (bind_is_tensor(L, value)) {
    lua_pushvalue(L, value), lua_pushboolean(L, 1), lua_rawset(L, kept);
  } else if (lua_istable(L, value)) {
    lua_pushvalue(L, value), lua_rawget(L, kept);
    bool seen = !lua_isnil(L, -1);
    lua_pop(L, 1);
    if (seen) return;
    lua_pushvalue(L, value), lua_pushboolean(L, 1), lua_rawset(L, kept);
    luaL_checkstack(L, 8, "scope: results nested too deeply");
    lua_pushnil(L);
    while (lua_next(L, value)) keep_value(L, lua_gettop(L), kept), lua_pop(L, 1);
  }
}

static int scope_end(lua_State *L) {
  int top = lua_gettop(L);
  lua_newtable(L); /* set of kept handles, also inside returned tables */
  for (int i = 2; i <= top; i++) keep_value(L, i, top + 1);
  lua_getfield(L, LUA_REGISTRYINDEX, "quench.scope");
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "quench.scope");
  int made = top + 2, n = (int)lua_objlen(L, made);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, made, i);
    lua_pushvalue(L, -1), lua_rawget(L, top + 1);
    Handle *h = lua_touserdata(L, -2);
    if (lua_toboolean(L, -1)) {
      if (lua_istable(L, 1)) lua_pushvalue(L, -2), lua_rawseti(L, 1, (int)lua_objlen(L, 1) + 1); /* now the outer scope's */
    } else if (h) {
      tensor_release(h->t);
      h->t = NULL;
    }
    lua_pop(L, 2);
  }
  return 0;
}

/* keep(t): the scope around it will not free t. */
static int keep(lua_State *L) {
  lua_settop(L, 1);
  bind_tensor(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, "quench.scope");
  if (lua_istable(L, 2))
    for (int i = (int)lua_objlen(L, 2); i >= 1; i--) {
      lua_rawgeti(L, 2, i);
      if (lua_rawequal(L, -1, 1)) lua_pushboolean(L, 0), lua_rawseti(L, 2, i);
      lua_pop(L, 1);
    }
  lua_settop(L, 1);
  return 1;
}

static int threads(lua_State *L) { /* threads() reads, threads(n) sets */
  if (!lua_isnoneornil(L, 1)) threads_set((int)bind_integer(L, 1, "threads"));
  return lua_pushinteger(L, threads_get()), 1;
}

static const luaL_Reg functions[] = {
  {"tensor", tensor}, {"zeros", zeros}, {"ones", ones}, {"full", full}, {"empty_like", empty_like}, {"arange", arange}, {"stream", stream},
  {"scope_begin", scope_begin}, {"scope_end", scope_end}, {"keep", keep}, {"threads", threads}, {NULL, NULL},
};

static const luaL_Reg methods[] = {
  {"shape", shape}, {"size", size}, {"dtype", dtype}, {"ndim", ndim}, {"numel", numel}, {"nbytes", nbytes}, {"is_contiguous", is_contiguous},
  {"item", item}, {"data", data}, {"totable", totable}, {"fill_", fill_}, {"copy_", copy_}, {"axpby_", axpby_}, {"uniform_", uniform_},
  {"normal_", normal_}, {"free", free_handle}, {"is_freed", is_freed}, {"__gc", free_handle}, {"__tostring", tostring},
  {"__index", index_}, {"__newindex", newindex}, {NULL, NULL},
};

static const luaL_Reg stream_methods[] = {
  {"uniform", stream_uniform}, {"normal", stream_normal}, {"below", stream_below}, {"counter", stream_counter}, {"clone", stream_clone}, {NULL, NULL},
};

int bind_open_tensor(lua_State *L) {
  luaL_newmetatable(L, TENSOR);
  luaL_register(L, NULL, methods);
  lua_pushliteral(L, "tensor"), lua_setfield(L, -2, "__name");
  bind_add_ops(L); /* methods of ops.c, into the same metatable */
  lua_pop(L, 1);
  luaL_newmetatable(L, STREAM);
  luaL_register(L, NULL, stream_methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  bind_add_functions(L);
  luaL_getmetatable(L, TENSOR), lua_setfield(L, -2, "metatable");
  return 1;
}
