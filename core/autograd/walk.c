/* walk.c - collects the nodes below some tensors and orders them by creation, which is
 * a topological order. Numbers live in a table beside the graph, not in the nodes, so
 * that a walk may start another one (rules taken from `compose` do). */
#include <stdlib.h>

#include "autograd/graph.h"
#include "base/mem.h"

static size_t hash(const void *key) { return (size_t)(((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15u >> 20); }

int walk_find(const Walk *w, const void *key) {
  if (!w->table) return -1;
  for (size_t i = hash(key);; i++) {
    size_t at = i & (size_t)(w->table - 1);
    if (!w->keys[at]) return -1;
    if (w->keys[at] == key) return w->numbers[at];
  }
}

static void insert(Walk *w, void *key, int number) {
  size_t i = hash(key);
  while (w->keys[i & (size_t)(w->table - 1)] && w->keys[i & (size_t)(w->table - 1)] != key) i++;
  size_t at = i & (size_t)(w->table - 1);
  if (!w->keys[at]) w->used++;
  w->keys[at] = key;
  w->numbers[at] = number;
}

static Status grow(Walk *w) {
  Walk old = *w;
  w->table = old.table ? 2 * old.table : 256;
  w->used = 0;
  w->keys = mem_calloc((size_t)w->table, sizeof *w->keys);
  w->numbers = mem_calloc((size_t)w->table, sizeof *w->numbers);
  if (!w->keys || !w->numbers) {
    mem_free(w->keys);
    mem_free(w->numbers);
    *w = old;
    return error_code();
  }
  for (int i = 0; i < old.table; i++)
    if (old.keys[i]) insert(w, old.keys[i], old.numbers[i]);
  mem_free(old.keys);
  mem_free(old.numbers);
  return OK;
}

Status walk_put(Walk *w, void *key, int number) {
  if (2 * (w->used + 1) > w->table) TRY(grow(w));
  insert(w, key, number);
  return OK;
}

static Status push(Walk *w, Node *n) {
  if (!n || walk_find(w, n) >= 0) return OK;
  if (w->count == w->room) {
    int room = w->room ? 2 * w->room : 256;
    Node **grown = mem_realloc(w->nodes, (size_t)room * sizeof *grown);
    if (!grown) return error_code();
    w->nodes = grown;
    w->room = room;
  }
  w->nodes[w->count++] = n;
  return walk_put(w, n, 0);
}

static int by_id(const void *a, const void *b) {
  uint64_t x = (*(Node *const *)a)->id, y = (*(Node *const *)b)->id;
  return (x > y) - (x < y);
}

Status walk_make(Walk *w, int outputs, Tensor *const *out) {
  *w = (Walk){0};
  Status s = OK;
  for (int i = 0; i < outputs && s == OK; i++) s = push(w, out[i]->node);
  for (int done = 0; done < w->count && s == OK; done++) { /* the list is the queue */
    Node *n = w->nodes[done];
    for (int i = 0; i < n->inputs && s == OK; i++)
      if (n->in[i]) s = push(w, n->in[i]->node);
  }
  if (s == OK && w->count) qsort(w->nodes, (size_t)w->count, sizeof *w->nodes, by_id);
  for (int i = 0; i < w->count && s == OK; i++) s = walk_put(w, w->nodes[i], i);
  if (s != OK) walk_free(w);
  return s;
}

void walk_free(Walk *w) {
  mem_free(w->nodes);
  mem_free(w->keys);
  mem_free(w->numbers);
  *w = (Walk){0};
}

Status node_check(const Node *n) {
  if (n->freed)
    return fail(ERR_ARGUMENT, "%s: this graph was already used by backward() and freed (pass retain = true to keep it)", n->op->name);
  for (int i = 0; i < n->inputs; i++)
    if (n->in[i] && n->in[i]->storage->version != n->version[i])
      return fail(ERR_ARGUMENT, "%s: its input %d of shape %s was changed in place after it was used, so the gradient would be wrong",
                  n->op->name, i + 1, shape_text(n->in[i]));
  return OK;
}
