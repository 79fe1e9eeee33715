/* system.c - memory, threads, files, clock: what Lua modules need of the system. */
#include <omp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"

static int system_memory(lua_State *L) {
  MemStats s = mem_stats();
  lua_createtable(L, 0, 6);
  lua_pushnumber(L, (double)s.live), lua_setfield(L, -2, "live");
  lua_pushnumber(L, (double)s.peak), lua_setfield(L, -2, "peak");
  lua_pushnumber(L, (double)s.cached), lua_setfield(L, -2, "cached");
  lua_pushnumber(L, (double)s.blocks), lua_setfield(L, -2, "blocks");
  lua_pushnumber(L, (double)s.system), lua_setfield(L, -2, "system");
  lua_pushnumber(L, (double)s.requests), lua_setfield(L, -2, "requests");
  return 1;
}

static int system_reset_peak(lua_State *L) {
  (void)L;
  mem_reset_peak();
  return 0;
}

static int system_memory_limit(lua_State *L) {
  mem_set_limit((size_t)luaL_checknumber(L, 1));
  return 0;
}

static int system_fail_at(lua_State *L) {
  mem_fail_at((size_t)luaL_checknumber(L, 1));
  return 0;
}

static int system_clock(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
  return 1;
}

static int system_interrupted(lua_State *L) {
  lua_pushboolean(L, interrupt_pending());
  return 1;
}

static int system_check_interrupt(lua_State *L) {
  bind_check(L, interrupt_check());
  return 0;
}

static int system_clear_interrupt(lua_State *L) {
  (void)L;
  interrupt_clear();
  return 0;
}

static int system_read_file(lua_State *L) {
  char *text;
  size_t bytes;
  bind_check(L, file_read(luaL_checkstring(L, 1), &text, &bytes));
  lua_pushlstring(L, text, bytes);
  mem_free(text);
  return 1;
}

static int system_write_file(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 2, &bytes);
  bind_check(L, file_write_all(luaL_checkstring(L, 1), text, bytes));
  return 0;
}

static int system_append_file(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 2, &bytes);
  bind_check(L, file_append(luaL_checkstring(L, 1), text, bytes));
  return 0;
}

static int system_make_directories(lua_State *L) {
  bind_check(L, file_make_directories(luaL_checkstring(L, 1)));
  return 0;
}

static int system_exists(lua_State *L) {
  lua_pushboolean(L, access(luaL_checkstring(L, 1), F_OK) == 0);
  return 1;
}

static int system_is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

static int system_process(lua_State *L) {
  lua_pushnumber(L, (double)getpid());
  return 1;
}

static const luaL_Reg functions[] = {
  {"memory", system_memory}, {"reset_peak", system_reset_peak}, {"memory_limit", system_memory_limit},
  {"fail_at", system_fail_at}, {"clock", system_clock},
  {"interrupted", system_interrupted}, {"check_interrupt", system_check_interrupt}, {"clear_interrupt", system_clear_interrupt},
  {"read_file", system_read_file}, {"write_file", system_write_file}, {"append_file", system_append_file},
  {"make_directories", system_make_directories}, {"exists", system_exists}, {"is_terminal", system_is_terminal},
  {"process", system_process}, {NULL, NULL},
};

int bind_open_system(lua_State *L) {
  luaL_register(L, "quench.c.system", functions);
  lua_pushliteral(L, QUENCH_VERSION), lua_setfield(L, -2, "version");
  return 1;
}
