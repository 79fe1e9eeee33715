/* settings.h - values for a settings table; used by the frame alone. */
#ifndef quench_optim_settings_h
#define quench_optim_settings_h

#include "optim/optim.h"

/* A checked copy of given (or the defaults), from mem_alloc. */
Status settings_make(const OptimInfo *info, const double *given, double **out);
Status settings_set(const OptimInfo *info, double *values, const char *name, double value);

#endif
