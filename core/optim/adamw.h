/* adamw.h - AdamW's rule, shared with the optimizers that fall back on it for some roles. */
#ifndef quench_adamw_h
#define quench_adamw_h

#include "optim/optim.h"

typedef struct AdamW {
  double lr, beta1, beta2, eps, weight_decay;
} AdamW;

Status adamw_prepare(Parameter *p);
void adamw_update(const AdamW *s, const Parameter *p, double scale, Update *u);

/* Settings of an AdamW inside another optimizer, as a struct AdamW in the middle of its own. */
#define AUX_SETTINGS(lr, b1, b2, eps, decay)                                                                                      \
  {"aux_lr", .value = {lr}, AT_LEAST_0, .doc = "AdamW for the other roles: learning rate"},                                       \
  {"aux_betas", SETTING_LIST, {b1, b2}, BELOW_1, .count = 2, .doc = "AdamW for the other roles: decay of the moments"},           \
  {"aux_eps", .value = {eps}, EPSILON, .doc = "AdamW for the other roles: added to the denominator"},                          \
  {"aux_weight_decay", .value = {decay}, AT_LEAST_0, .doc = "AdamW for the other roles: decoupled decay"}

#endif
