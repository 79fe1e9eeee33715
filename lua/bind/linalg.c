/* linalg.c - dense linear algebra in Lua: q.linalg. No gradients flow through these. */
#include "linalg/linalg.h"

#include "bind/bind.h"
#include "bind/modules.h"

/* Pushes tensors that we own, in order. */
static int push_owned(lua_State *L, Status s, int n, Tensor **made) {
  bind_check(L, s);
  for (int i = 0; i < n; i++) pool_keep(tensor_retain(made[i])); /* should a push raise, the pool still frees them */
  for (int i = 0; i < n; i++) bind_push_tensor(L, made[i]), tensor_release(made[i]);
  return n;
}

static int eigh(lua_State *L) { /* (a) -> values ascending, eigenvectors as rows */
  Tensor *made[2];
  return push_owned(L, linalg_eigh(bind_tensor(L, 1), &made[0], &made[1]), 2, made);
}

static int svd(lua_State *L) { /* (a) -> u, s, vt */
  Tensor *made[3];
  return push_owned(L, linalg_svd(bind_tensor(L, 1), &made[0], &made[1], &made[2]), 3, made);
}

static int qr(lua_State *L) { /* (a) -> q, r */
  Tensor *made[2];
  return push_owned(L, linalg_qr(bind_tensor(L, 1), &made[0], &made[1]), 2, made);
}

static int cholesky(lua_State *L) { /* (a, upper?) */
  Tensor *made;
  return push_owned(L, linalg_cholesky(bind_tensor(L, 1), lua_toboolean(L, 2), &made), 1, &made);
}

static int solve(lua_State *L) { /* (a, b) */
  Tensor *made;
  return push_owned(L, linalg_solve(bind_tensor(L, 1), bind_tensor(L, 2), &made), 1, &made);
}

static int triangular_solve(lua_State *L) { /* (t, b, upper?, transpose?) */
  Tensor *made;
  return push_owned(L, linalg_triangular_solve(bind_tensor(L, 1), bind_tensor(L, 2), lua_toboolean(L, 3), lua_toboolean(L, 4), &made), 1, &made);
}

static int inverse(lua_State *L) { /* (a) */
  Tensor *made;
  return push_owned(L, linalg_inverse(bind_tensor(L, 1), &made), 1, &made);
}

static int inverse_root(lua_State *L) { /* (a, root, eps) */
  Tensor *made;
  return push_owned(L, linalg_inverse_root(bind_tensor(L, 1), luaL_checknumber(L, 2), luaL_checknumber(L, 3), &made), 1, &made);
}

static int spectral_norm(lua_State *L) { /* (a) -> number */
  double norm;
  bind_check(L, linalg_spectral_norm(bind_tensor(L, 1), &norm));
  return lua_pushnumber(L, norm), 1;
}

static int newton_schulz(lua_State *L) { /* (x, steps = 5): a new tensor */
  Tensor *from = bind_tensor(L, 1), *x;
  int steps = lua_isnoneornil(L, 2) ? 5 : (int)bind_integer(L, 2, "steps");
  bind_check(L, tensor_cast(from, from->dtype, &x));
  pool_keep(x);
  bind_check(L, linalg_newton_schulz(x, steps, NULL));
  return bind_push_tensor(L, x);
}

static const luaL_Reg functions[] = {
  {"eigh", eigh}, {"svd", svd}, {"qr", qr}, {"cholesky", cholesky}, {"solve", solve}, {"triangular_solve", triangular_solve},
  {"inverse", inverse}, {"inverse_root", inverse_root}, {"spectral_norm", spectral_norm}, {"newton_schulz", newton_schulz}, {NULL, NULL},
};

int bind_open_linalg(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
