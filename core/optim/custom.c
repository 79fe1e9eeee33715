/* custom.c - the frame without a rule: for optimizers whose update is written elsewhere,
 * in Lua (docs/how-to-add-an-optimizer.md). Gradients are checked, measured and clipped, state is
 * named, saved and loaded as for the others. */
#include "optim/optim.h"

static const Setting settings[] = {{0}};
static const Rule rule = {0};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_custom = {"optimizer", "An optimizer whose update is written in Lua.", "", settings, choose};
