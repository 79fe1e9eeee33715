/* repl.c - the line editor of the prompt: libedit, taught to edit whole blocks.
 *
 * libedit's buffer may hold newlines and draws them, so a block of several lines is one
 * entry, in the editor and in the history. What is ours, each bound to a key below:
 *   Enter   ends the block if Lua says it is finished, else starts a new line in it
 *   Up/Down move inside the block, beyond its ends through the history
 *   Tab     asks Lua what to insert and what to show
 *   Ctrl-C  gives the block up
 *   paste   (bracketed, where the terminal does that) inserts the text as it is
 * The prompt takes the keyboard before it shows itself: whoever sees it can type. What was typed
 * before, while a block ran, has gone through the terminal's own line discipline, which keeps the
 * keys (at most 4095 of an unfinished line) but turns Ctrl-D into a zero byte.
 * A function bound to a key cannot call an editor command, but it can push the key
 * sequence of one: the sequences \033[9xx~, which no keyboard sends, stand for commands.
 *
 * Lua's part comes in through two callbacks, finished(text) and complete(text before the
 * cursor); they run protected, so that no error jumps over libedit. */
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/buffer.h"
#include "base/interrupt.h"
#include "bind/bind.h"
#include "bind/modules.h"

#define EDITOR "quench.editor"
#define ACCEPT "\033[901~"
#define LINE_UP "\033[902~"
#define LINE_DOWN "\033[903~"
#define OLDER "\033[904~"
#define NEWER "\033[905~"
#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"

typedef struct Editor {
  EditLine *el;
  History *history;
  lua_State *L;     /* the state that is reading */
  int callbacks;    /* where the table of callbacks lies on its stack */
  bool interrupted;
  bool early;       /* keys were waiting when the prompt came */
  wchar_t typed[4096]; /* keys that somebody else has read from the terminal, see editor_type */
  size_t taken, typed_count;
  char prompt[64];
} Editor;

static Editor *editor_of(EditLine *el) {
  void *e = NULL;
  el_get(el, EL_CLIENTDATA, &e);
  return e;
}

static char *prompt_text(EditLine *el) { return editor_of(el)->prompt; }

/* Calls callbacks[name](text) and leaves `results` values; 0 if it failed (nothing left). */
static bool callback(Editor *e, const char *name, const char *text, size_t bytes, int results) {
  lua_getfield(e->L, e->callbacks, name);
  lua_pushlstring(e->L, text, bytes);
  if (lua_pcall(e->L, 1, results, 0) == 0) return true;
  lua_pop(e->L, 1);
  return false;
}

static unsigned char key_enter(EditLine *el, wint_t key) {
  (void)key;
  Editor *e = editor_of(el);
  const LineInfo *line = el_line(el);
  if (callback(e, "finished", line->buffer, (size_t)(line->lastchar - line->buffer), 1)) {
    const char *insert = lua_tostring(e->L, -1); /* the new line with its indentation; not a text: finished */
    bool open = insert && el_insertstr(el, insert) == 0;
    lua_pop(e->L, 1);
    if (open) return CC_REFRESH;
  }
  el_push(el, ACCEPT);
  return CC_NORM;
}

/* Is there a newline between the cursor and the start (or the end) of the block? */
static unsigned char key_up(EditLine *el, wint_t key) {
  (void)key;
  const LineInfo *line = el_line(el);
  el_push(el, memchr(line->buffer, '\n', (size_t)(line->cursor - line->buffer)) ? LINE_UP : OLDER);
  return CC_NORM;
}

static unsigned char key_down(EditLine *el, wint_t key) {
  (void)key;
  const LineInfo *line = el_line(el);
  el_push(el, memchr(line->cursor, '\n', (size_t)(line->lastchar - line->cursor)) ? LINE_DOWN : NEWER);
  return CC_NORM;
}

static unsigned char key_tab(EditLine *el, wint_t key) {
  (void)key;
  Editor *e = editor_of(el);
  const LineInfo *line = el_line(el);
  if (!callback(e, "complete", line->buffer, (size_t)(line->cursor - line->buffer), 2)) return CC_ERROR;
  const char *insert = lua_tostring(e->L, -2), *show = lua_tostring(e->L, -1);
  unsigned char result = CC_ERROR;
  if (insert && *insert && el_insertstr(el, insert) == 0) result = CC_REFRESH;
  if (show && *show) {
    printf("\n%s\n", show);
    result = CC_REDISPLAY;
  }
  lua_pop(e->L, 2);
  return result;
}

static unsigned char key_interrupt(EditLine *el, wint_t key) {
  (void)key;
  Editor *e = editor_of(el);
  e->interrupted = true;
  el_push(el, ACCEPT);
  return CC_NORM;
}

/* A zero byte: Ctrl-D that came before the prompt, or Ctrl-Space, which does nothing. */
static unsigned char key_zero(EditLine *el, wint_t key) {
  (void)key;
  const LineInfo *line = el_line(el);
  return editor_of(el)->early && line->lastchar == line->buffer ? CC_EOF : CC_NORM;
}

static unsigned char key_suspend(EditLine *el, wint_t key) {
  (void)key;
  el_set(el, EL_PREP_TERM, 0);
  raise(SIGTSTP);
  el_set(el, EL_PREP_TERM, 1);
  return CC_REDISPLAY;
}

/* Everything up to the end mark goes in as it is, carriage returns as newlines. */
static unsigned char key_paste(EditLine *el, wint_t key) {
  (void)key;
  static const char end[] = "\033[201~";
  enum { END = sizeof end - 1 };
  Buffer text = {0};
  bool good = true;
  for (char c; good && el_getc(el, &c) == 1;) {
    if (c == '\r') c = '\n';
    good = buffer_add(&text, &c, 1) == OK;
    if (good && text.used >= END && memcmp(text.data + text.used - END, end, END) == 0) {
      text.used -= END;
      break;
    }
  }
  good = good && buffer_add(&text, "", 1) == OK && text.used > 1 && el_insertstr(el, text.data) == 0;
  buffer_free(&text);
  return good ? CC_REFRESH : CC_ERROR;
}

static void bind_keys(EditLine *el) {
  static const struct { const wchar_t *name; unsigned char (*function)(EditLine *, wint_t); const wchar_t *keys[3]; } ours[] = {
    {L"quench-enter", key_enter, {L"^M", L"^J", NULL}},
    {L"quench-up", key_up, {L"\033[A", L"\033OA", L"^P"}},
    {L"quench-down", key_down, {L"\033[B", L"\033OB", L"^N"}},
    {L"quench-complete", key_tab, {L"^I", NULL, NULL}},
    {L"quench-interrupt", key_interrupt, {L"^C", NULL, NULL}},
    {L"quench-suspend", key_suspend, {L"^Z", NULL, NULL}},
    {L"quench-paste", key_paste, {L"\033[200~", NULL, NULL}},
    {L"quench-zero", key_zero, {L"^@", NULL, NULL}},
  };
  static const char *const commands[][2] = {
    {ACCEPT, "ed-newline"}, {LINE_UP, "ed-prev-line"}, {LINE_DOWN, "ed-next-line"}, {OLDER, "ed-prev-history"}, {NEWER, "ed-next-history"},
    {"^R", "em-inc-search-prev"}, {"\033[H", "ed-move-to-beg"}, {"\033[F", "ed-move-to-end"}, {"\033[1~", "ed-move-to-beg"},
    {"\033[4~", "ed-move-to-end"}, {"\033[3~", "ed-delete-next-char"}, {"\033[1;5C", "em-next-word"}, {"\033[1;5D", "ed-prev-word"},
    {"^W", "ed-delete-prev-word"},
  };
  for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
    el_wset(el, EL_ADDFN, ours[i].name, ours[i].name, ours[i].function); /* el_set would copy the names and lose them */
    for (int k = 0; k < 3 && ours[i].keys[k]; k++) el_wset(el, EL_BIND, ours[i].keys[k], ours[i].name, NULL);
  }
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) el_set(el, EL_BIND, commands[i][0], commands[i][1], NULL);
}

static Editor *editor_argument(lua_State *L) {
  Editor *e = luaL_checkudata(L, 1, EDITOR);
  if (!e->el) luaL_error(L, "this editor was closed");
  return e;
}

/* open() -> editor on stdin and stdout, or nil where libedit cannot start. */
static int editor_open(lua_State *L) {
  setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
  Editor *e = lua_newuserdata(L, sizeof *e);
  *e = (Editor){.L = L};
  luaL_getmetatable(L, EDITOR), lua_setmetatable(L, -2);
  e->el = el_init("quench", stdin, stdout, stderr);
  e->history = history_init();
  if (!e->el || !e->history) return 0;
  HistEvent event;
  history(e->history, &event, H_SETSIZE, 5000);
  history(e->history, &event, H_SETUNIQUE, 1);
  el_set(e->el, EL_CLIENTDATA, e);
  el_set(e->el, EL_PROMPT, prompt_text);
  el_set(e->el, EL_EDITOR, "emacs");
  el_set(e->el, EL_SIGNAL, 1); /* follows the window's size */
  el_set(e->el, EL_HIST, history, e->history);
  el_set(e->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key while a line is edited */
  bind_keys(e->el);
  return 1;
}

/* editor:read(prompt, callbacks) -> block; nil at the end of input; nil, "interrupted" after Ctrl-C. */
static int editor_read(lua_State *L) {
  Editor *e = editor_argument(L);
  const char *prompt = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  snprintf(e->prompt, sizeof e->prompt, "%s", prompt);
  e->L = L, e->callbacks = 3, e->interrupted = false;
  int n = 0, waiting = 0;
  el_set(e->el, EL_PREP_TERM, 1); /* libedit would do so only when it reads its first key */
  e->early = ioctl(STDIN_FILENO, FIONREAD, &waiting) == 0 && waiting > 0;
  e->early = e->early || e->taken < e->typed_count;
  interrupt_clear(); /* from here on Ctrl-C is a key; one that came before, after its block had ended, is late */
  fputs(PASTE_ON, stdout), fflush(stdout);
  const char *line = el_gets(e->el, &n);
  fputs(PASTE_OFF, stdout), fflush(stdout);
  if (e->interrupted || (!line && interrupt_pending())) return lua_pushnil(L), lua_pushliteral(L, "interrupted"), 2;
  if (!line || n <= 0) return 0;
  lua_pushlstring(L, line, (size_t)n - (line[n - 1] == '\n'));
  return 1;
}

/* libedit's source of keys while there are some that were typed before; then its own is in place again. */
static int next_typed(EditLine *el, wchar_t *key) {
  Editor *e = editor_of(el);
  *key = e->typed[e->taken++];
  if (e->taken == e->typed_count) el_wset(el, EL_GETCFN, EL_BUILTIN_GETCFN);
  return 1;
}

/* editor:type(keys): as if they had been typed. Not el_push, whose keys come before those that ours push in their turn. */
static int editor_type(lua_State *L) {
  Editor *e = editor_argument(L);
  size_t bytes;
  const char *keys = luaL_checklstring(L, 2, &bytes);
  e->taken = e->typed_count = 0;
  for (size_t i = 0; i < bytes && e->typed_count < sizeof e->typed / sizeof e->typed[0];) {
    mbstate_t state = {0};
    size_t n = mbrtowc(&e->typed[e->typed_count++], keys + i, bytes - i, &state);
    if (n > bytes) e->typed[e->typed_count - 1] = L'?'; /* no character: one byte is left out */
    i += n == 0 || n > bytes ? 1 : n;
  }
  if (e->typed_count > 0) el_wset(e->el, EL_GETCFN, next_typed);
  return 0;
}

static int editor_remember(lua_State *L) {
  Editor *e = editor_argument(L);
  HistEvent event;
  history(e->history, &event, H_ENTER, luaL_checkstring(L, 2));
  return 0;
}

static int editor_close(lua_State *L) {
  Editor *e = luaL_checkudata(L, 1, EDITOR);
  if (e->el) el_end(e->el);
  if (e->history) history_end(e->history);
  e->el = NULL, e->history = NULL;
  return 0;
}

static const luaL_Reg methods[] = {
  {"read", editor_read}, {"type", editor_type}, {"remember", editor_remember}, {"close", editor_close}, {"__gc", editor_close}, {NULL, NULL},
};

int bind_open_repl(lua_State *L) {
  luaL_newmetatable(L, EDITOR);
  luaL_register(L, NULL, methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_pushcfunction(L, editor_open), lua_setfield(L, -2, "open");
  return 1;
}
