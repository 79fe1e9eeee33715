/* table.c - the list of optimizers. A new one is its file and one line here. */
#include "optim/table.h"

#include <string.h>

#include "optim/optim.h"

const OptimInfo *const optim_table[] = {
  &optim_sgd, &optim_adamw, &optim_adamc, &optim_lion, &optim_sophia, &optim_adafactor, &optim_ademamix, &optim_schedule_free,
  &optim_muon, &optim_scion, &optim_shampoo, &optim_soap, &optim_psgd, NULL,
};

const OptimInfo *optim_find(const char *name) {
  for (int i = 0; optim_table[i]; i++)
    if (strcmp(optim_table[i]->name, name) == 0) return optim_table[i];
  fail(ERR_ARGUMENT, "optim: there is no optimizer called '%s'", name);
  return NULL;
}
