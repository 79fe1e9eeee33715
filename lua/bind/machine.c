/* machine.c - what this machine is: processor, OpenBLAS kernels, library versions, terminal. */
#include <ft2build.h>
#include FT_FREETYPE_H
#include <gnu/libc-version.h>
#include <histedit.h>
#include <jansson.h>
#include <luajit.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <png.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <zlib.h>

#include "base/blas.h"
#include "base/probe.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "kernel/kernel.h"
#include "kernel/profile.h"

/* blas(): core, config, why it was chosen, and the instruction sets of kernels and processor. */
static int machine_blas(lua_State *L) {
  static const char *const names[] = {"SSE", "AVX", "AVX2", "AVX-512"};
  lua_createtable(L, 0, 5);
  lua_pushstring(L, blas_core()), lua_setfield(L, -2, "core");
  lua_pushstring(L, blas_config()), lua_setfield(L, -2, "config");
  lua_pushstring(L, names[blas_core_level(blas_core())]), lua_setfield(L, -2, "level");
  lua_pushstring(L, names[blas_processor_level()]), lua_setfield(L, -2, "processor_level");
  lua_getfield(L, LUA_REGISTRYINDEX, "quench.blas_why"), lua_setfield(L, -2, "why");
  return 1;
}

static int machine_blas_check(lua_State *L) {
  bind_check(L, blas_self_check());
  return 0;
}

static int machine_probe_fma(lua_State *L) {
  lua_pushnumber(L, probe_fma(luaL_optnumber(L, 1, 0.05)));
  return 1;
}

static int machine_probe_bf16(lua_State *L) {
  lua_pushnumber(L, probe_bf16(luaL_optnumber(L, 1, 0.05)));
  return 1;
}

static int machine_probe_sgemm(lua_State *L) {
  double rate = probe_sgemm((int)luaL_optinteger(L, 1, 1024), (int)luaL_optinteger(L, 2, 3));
  if (rate < 0) return bind_raise(L);
  lua_pushnumber(L, rate);
  return 1;
}

static void set(lua_State *L, const char *key, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

/* versions(): library -> version at run time. */
static int machine_versions(lua_State *L) {
  char text[64];
  int major = 0, minor = 0, patch = 0;
  lua_newtable(L);
  set(L, "quench", QUENCH_VERSION);
  set(L, "luajit", LUAJIT_VERSION);
  set(L, "compiler", __VERSION__);
  set(L, "glibc", gnu_get_libc_version());
  set(L, "libpng", png_get_libpng_ver(NULL));
  set(L, "zlib", zlibVersion());
  set(L, "jansson", JANSSON_VERSION);
  snprintf(text, sizeof text, "%d.%d", LIBEDIT_MAJOR, LIBEDIT_MINOR);
  set(L, "libedit", text);
  if (pcre2_config(PCRE2_CONFIG_VERSION, text) > 0) set(L, "pcre2", text);
  FT_Library freetype;
  if (FT_Init_FreeType(&freetype) == 0) {
    FT_Library_Version(freetype, &major, &minor, &patch);
    FT_Done_FreeType(freetype);
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
    set(L, "freetype", text);
  }
  return 1;
}

/* terminal_size(descriptor): columns, rows, pixel width, pixel height; nil where there is no terminal or no size. */
static int machine_terminal_size(lua_State *L) {
  struct winsize w;
  if (ioctl((int)luaL_optinteger(L, 1, STDOUT_FILENO), TIOCGWINSZ, &w) != 0 || w.ws_col == 0) return 0;
  lua_pushinteger(L, w.ws_col), lua_pushinteger(L, w.ws_row);
  lua_pushinteger(L, w.ws_xpixel), lua_pushinteger(L, w.ws_ypixel);
  return 4;
}

static int machine_processors(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)sysconf(_SC_NPROCESSORS_ONLN));
  lua_pushnumber(L, (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE));
  return 2;
}

static int machine_host(lua_State *L) {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  lua_pushstring(L, name);
  return 1;
}

static int machine_tiles(lua_State *L) { return lua_pushboolean(L, kernel_has_tiles()), 1; }

/* profile(on): switches the measuring of kernels; returns what it was. */
static int machine_profile(lua_State *L) { return lua_pushboolean(L, profile_switch(lua_toboolean(L, 1))), 1; }

/* profile_entries(): list of {name=, calls=, seconds=, flops=, bytes=}. */
static int machine_profile_entries(lua_State *L) {
  const ProfileEntry *e;
  int n = profile_entries(&e);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_createtable(L, 0, 5);
    set(L, "name", e[i].name);
    lua_pushnumber(L, (lua_Number)e[i].calls), lua_setfield(L, -2, "calls");
    lua_pushnumber(L, e[i].seconds), lua_setfield(L, -2, "seconds");
    lua_pushnumber(L, e[i].flops), lua_setfield(L, -2, "flops");
    lua_pushnumber(L, e[i].bytes), lua_setfield(L, -2, "bytes");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const luaL_Reg functions[] = {
  {"tiles", machine_tiles}, {"profile", machine_profile}, {"profile_entries", machine_profile_entries},
  {"blas", machine_blas}, {"blas_check", machine_blas_check}, {"probe_fma", machine_probe_fma}, {"probe_bf16", machine_probe_bf16}, {"probe_sgemm", machine_probe_sgemm},
  {"versions", machine_versions}, {"terminal_size", machine_terminal_size}, {"processors", machine_processors},
  {"host", machine_host}, {NULL, NULL},
};

int bind_open_machine(lua_State *L) {
  lua_newtable(L); /* a name here would become a global */
  luaL_register(L, NULL, functions);
  return 1;
}
