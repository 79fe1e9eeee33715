/* compose.c - rules of a fused op taken from its composition of simpler ops. */
#include "autograd/op.h"

/* Fresh tensors for the inputs: nodes of their own (so that history goes on behind them) while
 * recording, else plain leaves. */
static Status stand_ins(Node *n, bool through, Tensor **in) {
  for (int i = 0; i < n->inputs; i++) {
    in[i] = NULL;
    if (!n->in[i]) continue;
    if (through && node_needs(n, i)) {
      if (!(in[i] = op_identity(n->in[i]))) return error_code();
      continue;
    }
    TRY(tensor_alias(n->in[i], &in[i]));
    if (!pool_keep(in[i])) return error_code();
    in[i]->requires_grad = node_needs(n, i);
  }
  return OK;
}

static Status run_compose(Node *n, Tensor *const *in, Tensor **out) {
  if (!n->op->compose) return fail(ERR_UNSUPPORTED, "%s has no rule for this derivative", n->op->name);
  bool was = grad_enable(true);
  Status s = n->op->compose(n, in, out);
  grad_enable(was);
  return s;
}

Status node_vjp_by_compose(Node *n, Tensor *const *gout, Tensor **gin) {
  Tensor *in[MAX_INPUTS], *out[MAX_OUTPUTS] = {0}, *used[MAX_OUTPUTS], *g[MAX_OUTPUTS], *wanted[MAX_INPUTS], *got[MAX_INPUTS];
  int index[MAX_INPUTS], outs = 0, wants = 0;
  bool create = grad_enabled();
  TRY(stand_ins(n, create, in));
  TRY(run_compose(n, in, out));
  for (int i = 0; i < n->outputs; i++)
    if (gout[i] && tensor_needs_grad(out[i])) used[outs] = out[i], g[outs++] = gout[i];
  for (int i = 0; i < n->inputs; i++)
    if (tensor_needs_grad(in[i])) wanted[wants] = in[i], index[wants++] = i;
  if (!outs || !wants) return OK;
  TRY(graph_grad(outs, used, g, wants, wanted, create, got));
  for (int i = 0; i < wants; i++) gin[index[i]] = got[i];
  return OK;
}

Status node_jvp_by_compose(Node *n, Tensor *const *tin, Tensor **tout) {
  Tensor *in[MAX_INPUTS], *out[MAX_OUTPUTS] = {0}, *wanted[MAX_INPUTS], *t[MAX_INPUTS];
  int wants = 0;
  TRY(stand_ins(n, false, in));
  for (int i = 0; i < n->inputs; i++) {
    if (in[i]) in[i]->requires_grad = tin[i] != NULL;
    if (tin[i]) wanted[wants] = in[i], t[wants++] = tin[i];
  }
  TRY(run_compose(n, in, out));
  return graph_jvp(n->outputs, out, wants, wanted, t, false, tout);
}
