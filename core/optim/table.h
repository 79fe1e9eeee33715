/* table.h - the optimizers by name; each is defined at the end of its own file. */
#ifndef quench_optim_table_h
#define quench_optim_table_h

#include "optim/optim.h"

extern const OptimInfo optim_sgd, optim_adamw, optim_lion, optim_muon;

#endif
