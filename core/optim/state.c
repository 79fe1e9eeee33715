/* state.c - what a resumed run needs, by name: "<parameter>.<slot>", "<parameter>.step"
 * and the rule's own numbers. Numbers travel as f64 scalars, which hold every integer
 * a run can reach, so that a state is a plain table of tensors and goes into a file
 * like any other. A state that was saved and loaded continues bit for bit. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "optim/optim.h"

enum { NAME_ROOM = 512 };

static int numbers_of(const Parameter *p) {
  int n = 0;
  while (n < MAX_NUMBERS && p->rule->numbers[n]) n++;
  return n;
}

int optim_entries(const Optimizer *o) {
  int n = 0;
  for (int i = 0; i < o->parameters; i++) n += 1 + numbers_of(&o->parameter[i]) + o->parameter[i].slots;
  return n;
}

static Status visit_number(const Parameter *p, const char *name, double value, StateVisitor visit, void *context) {
  char full[NAME_ROOM];
  snprintf(full, sizeof full, "%s.%s", p->name, name);
  Tensor *t;
  TRY(tensor_scalar(F64, value, &t));
  Status s = visit(context, full, t);
  tensor_release(t);
  return s;
}

Status optim_state(const Optimizer *o, StateVisitor visit, void *context) {
  char full[NAME_ROOM];
  for (int i = 0; i < o->parameters; i++) {
    const Parameter *p = &o->parameter[i];
    TRY(visit_number(p, "step", p->step, visit, context));
    for (int k = 0; k < numbers_of(p); k++) TRY(visit_number(p, p->rule->numbers[k], p->number[k], visit, context));
    for (int k = 0; k < p->slots; k++) {
      snprintf(full, sizeof full, "%s.%s", p->name, p->slot[k].name);
      TRY(visit(context, full, p->slot[k].tensor));
    }
  }
  return OK;
}

int64_t optim_state_bytes(const Optimizer *o) {
  int64_t bytes = 0;
  for (int i = 0; i < o->parameters; i++)
    for (int k = 0; k < o->parameter[i].slots; k++) {
      const Tensor *t = o->parameter[i].slot[k].tensor;
      bytes += tensor_numel(t) * (int64_t)dtype_bytes(t->dtype);
    }
  return bytes;
}

/* "layers.0.w.m" belongs to the parameter whose name and a dot it starts with: the longest such. */
static Parameter *owner(const Optimizer *o, const char *name, const char **rest) {
  Parameter *best = NULL;
  size_t longest = 0;
  for (int i = 0; i < o->parameters; i++) {
    size_t n = strlen(o->parameter[i].name);
    if (n < longest || strncmp(name, o->parameter[i].name, n) != 0 || name[n] != '.') continue;
    best = &o->parameter[i], longest = n;
    *rest = name + n + 1;
  }
  return best;
}

static Status load_number(const char *name, const Tensor *value, bool apply, double *out) {
  double number;
  if (tensor_numel(value) != 1) return fail(ERR_SHAPE, "optimizer state: '%s' must be one number, got %s", name, shape_text(value));
  TRY(tensor_get(value, (int64_t[MAX_DIMS]){0}, &number));
  if (apply) *out = number;
  return OK;
}

Status optim_load(Optimizer *o, const char *name, const Tensor *value, bool apply) {
  const char *rest = NULL;
  Parameter *p = owner(o, name, &rest);
  if (!p) return fail(ERR_ARGUMENT, "%s: the state's entry '%s' belongs to no parameter here", o->info->name, name);
  if (strcmp(rest, "step") == 0) return load_number(name, value, apply, &p->step);
  for (int k = 0; k < numbers_of(p); k++)
    if (strcmp(rest, p->rule->numbers[k]) == 0) return load_number(name, value, apply, &p->number[k]);
  for (int k = 0; k < p->slots; k++) {
    if (strcmp(rest, p->slot[k].name) != 0) continue;
    if (!tensor_same_shape(value, p->slot[k].tensor))
      return fail(ERR_SHAPE, "%s: the state's entry '%s' is %s, expected %s", o->info->name, name, shape_text(value), shape_text(p->slot[k].tensor));
    return apply ? tensor_copy(p->slot[k].tensor, value) : OK;
  }
  return fail(ERR_ARGUMENT, "%s: parameter '%s' has no state called '%s'; was the state saved by another optimizer?", o->info->name, p->name, rest);
}

Status optim_loaded(Optimizer *o) {
  for (int i = 0; i < o->parameters; i++)
    if (o->parameter[i].rule->loaded) TRY(o->parameter[i].rule->loaded(&o->parameter[i]));
  return OK;
}
