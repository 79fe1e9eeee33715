/* modules.c - the list of C modules, by the name that require() takes. A new
 * binding file is one opener and one line here. */
#include "bind/modules.h"

#include "bind/bind.h"

const BindModule bind_modules[] = {
  {"quench.c.tensor", bind_open_tensor},
  {"quench.c.function", bind_open_function},
  {"quench.c.nn", bind_open_nn},
  {"quench.c.system", bind_open_system},
  {"quench.c.quant", bind_open_quant},
  {"quench.c.machine", bind_open_machine},
  {"quench.c.optim", bind_open_optim},
  {"quench.c.linalg", bind_open_linalg},
  {"quench.c.io", bind_open_io},
  {"quench.c.json", bind_open_json},
  {"quench.c.linalg", bind_open_linalg},
  {"quench.c.text", bind_open_text},
  {"quench.c.plot", bind_open_plot},
  {"quench.c.repl", bind_open_repl},
  {"quench.c.tokenizer", bind_open_tokenizer},
  {NULL, NULL},
};
