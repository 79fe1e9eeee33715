/* table.h - the optimizers by name; each is defined at the end of its own file. */
#ifndef quench_optim_table_h
#define quench_optim_table_h

#include "optim/optim.h"

extern const OptimInfo optim_sgd, optim_adamw, optim_adamc, optim_lion, optim_sophia, optim_adafactor, optim_ademamix, optim_schedule_free, optim_muon,
  optim_scion, optim_shampoo, optim_soap, optim_psgd;

#endif
