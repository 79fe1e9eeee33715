/* linalg.c - dense linear algebra in Lua; meanings and options in quench/linalg.lua. */
#include "linalg/linalg.h"

#include "bind/bind.h"
#include "bind/modules.h"
#include "kernel/kernel.h"

/* Pushes results that the core handed over with one reference each. */
static int push_results(lua_State *L, Status s, int n, Tensor **made) {
  bind_check(L, s);
  for (int i = 0; i < n; i++) pool_keep(made[i]), tensor_retain(made[i]); /* pushing the first drains the pool */
  for (int i = 0; i < n; i++) bind_push_tensor(L, made[i]), tensor_release(made[i]);
  return n;
}

static int eigh(lua_State *L) { /* eigh(a) -> w, v: columns of v are the eigenvectors */
  Tensor *made[2];
  bind_check(L, linalg_eigh(bind_tensor(L, 1), &made[0], &made[1]));
  Tensor *columns = op_transpose(pool_keep(made[1]), 0, 1);
  pool_keep(made[0]);
  if (!columns) return bind_raise(L);
  made[0] = tensor_retain(made[0]), made[1] = tensor_retain(columns);
  return push_results(L, OK, 2, made);
}

static int eigvalsh(lua_State *L) {
  Tensor *w;
  return push_results(L, linalg_eigh(bind_tensor(L, 1), &w, NULL), 1, &w);
}

static int qr(lua_State *L) {
  Tensor *made[2];
  return push_results(L, linalg_qr(bind_tensor(L, 1), &made[0], &made[1]), 2, made);
}

static int svd(lua_State *L) { /* svd(a) -> u, s, vt */
  Tensor *made[3];
  return push_results(L, linalg_svd(bind_tensor(L, 1), &made[0], &made[1], &made[2]), 3, made);
}

static int svdvals(lua_State *L) {
  Tensor *s;
  return push_results(L, linalg_svd(bind_tensor(L, 1), NULL, &s, NULL), 1, &s);
}

static int cholesky(lua_State *L) { /* cholesky(a, upper) */
  Tensor *out;
  return push_results(L, linalg_cholesky(bind_tensor(L, 1), lua_toboolean(L, 2), &out), 1, &out);
}

static int cholesky_inverse(lua_State *L) {
  Tensor *out;
  return push_results(L, linalg_cholesky_inverse(bind_tensor(L, 1), &out), 1, &out);
}

static int inv(lua_State *L) {
  Tensor *out;
  return push_results(L, linalg_inverse(bind_tensor(L, 1), &out), 1, &out);
}

static int solve(lua_State *L) {
  Tensor *out;
  return push_results(L, linalg_solve(bind_tensor(L, 1), bind_tensor(L, 2), &out), 1, &out);
}

static int solve_triangular(lua_State *L) { /* solve_triangular(t, b, upper, transpose) */
  Tensor *out;
  Status s = linalg_triangular_solve(bind_tensor(L, 1), bind_tensor(L, 2), lua_toboolean(L, 3), lua_toboolean(L, 4), &out);
  return push_results(L, s, 1, &out);
}

static int inverse_root(lua_State *L) { /* inverse_root(a, root, eps) */
  Tensor *out;
  return push_results(L, linalg_inverse_root(bind_tensor(L, 1), luaL_checknumber(L, 2), luaL_checknumber(L, 3), &out), 1, &out);
}

static int spectral_norm(lua_State *L) {
  double value;
  bind_check(L, linalg_spectral_norm(bind_tensor(L, 1), &value));
  return lua_pushnumber(L, value), 1;
}

static int newton_schulz(lua_State *L) { /* newton_schulz(x, steps, a, b, c): without a, b, c Muon's */
  Tensor *x;
  double abc[3] = {luaL_optnumber(L, 3, 0), luaL_optnumber(L, 4, 0), luaL_optnumber(L, 5, 0)};
  bind_check(L, tensor_cast(bind_tensor(L, 1), bind_tensor(L, 1)->dtype, &x));
  Status s = linalg_newton_schulz(x, (int)bind_integer(L, 2, "steps"), lua_isnoneornil(L, 3) ? NULL : abc);
  if (s != OK) tensor_release(x);
  return push_results(L, s, 1, &x);
}

static int identity(lua_State *L) { /* identity(n, dtype) */
  Tensor *out;
  DType d = F32;
  int64_t n = bind_integer(L, 1, "n");
  bind_check(L, dtype_parse(luaL_optstring(L, 2, "f32"), &d));
  bind_check(L, tensor_new(d, 2, (int64_t[]){n, n}, &out));
  pool_keep(out);
  bind_check(L, linalg_identity(out));
  return bind_push_tensor(L, out);
}

/* A fresh array of doubles on the Lua stack. */
static double *new_doubles(lua_State *L, int n) { return lua_newuserdata(L, ((size_t)n + 1) * sizeof(double)); }

static int inner_products(lua_State *L) { /* inner_products(vectors, x) -> list of numbers */
  Tensor **q;
  Tensor *x = bind_tensor(L, 2);
  const int n = bind_tensor_list(L, 1, &q);
  double *c = new_doubles(L, n);
  bind_check(L, linalg_inner_products(n, q, x, c));
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) lua_pushnumber(L, c[i]), lua_rawseti(L, -2, i + 1);
  return 1;
}

static int combine(lua_State *L) { /* combine(vectors, coefficients, x): x += sum of c_k q_k */
  Tensor **q;
  Tensor *x = bind_tensor(L, 3);
  luaL_checktype(L, 2, LUA_TTABLE);
  const int n = bind_tensor_list(L, 1, &q);
  double *c = new_doubles(L, n);
  for (int i = 0; i < n; i++) lua_rawgeti(L, 2, i + 1), c[i] = luaL_checknumber(L, -1), lua_pop(L, 1);
  bind_check(L, linalg_combine(n, q, c, x));
  return 0;
}

static int scratch_of_cholesky(lua_State *L) { /* cholesky_scratch(n): the numbers that factoring (n, n) needs besides */
  return lua_pushnumber(L, (double)cholesky_scratch(bind_integer(L, 1, "n"))), 1;
}

static const luaL_Reg functions[] = {
  {"eigh", eigh}, {"eigvalsh", eigvalsh}, {"qr", qr}, {"svd", svd}, {"svdvals", svdvals}, {"cholesky", cholesky},
  {"cholesky_inverse", cholesky_inverse}, {"inv", inv}, {"solve", solve}, {"solve_triangular", solve_triangular},
  {"inverse_root", inverse_root}, {"spectral_norm", spectral_norm}, {"newton_schulz", newton_schulz}, {"identity", identity},
  {"inner_products", inner_products}, {"combine", combine}, {"cholesky_scratch", scratch_of_cholesky}, {NULL, NULL},
};

int bind_open_linalg(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
